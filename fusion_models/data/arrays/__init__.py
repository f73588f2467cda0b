"""Checked tables as memory-mapped arrays, in a cache folder that a node builds once.

`build` writes the folder; `feature_files`, `metadata`, `thumbnails` and `moments` its parts; `cache` shares it.
May use `fusion_models.data.tables`, the splits and the errors.
"""
