"""What `python -m fusion_models.data` does: the card of a dataset, a flat table converted.

May use everything below `fusion_models.data`; nothing there uses it but `fusion_models.data.__main__`.
"""
