"""How sure a number is: intervals over queries and trainings, tests, ensembles of trainings, what a design can show.

Pure functions of arrays; may use `fusion_models.metrics`' measurements, never a model or a dataset.
"""
