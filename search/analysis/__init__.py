"""Pure functions of tables: front, intervals, effects, replicates, importances, evidence, decision.

Nothing here trains or opens a dataset. May use run_store.
"""
