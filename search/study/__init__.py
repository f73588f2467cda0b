"""What is to be trained next: stages as Optuna studies, samplers, rungs of early stopping, trainings taken over.

Knows nothing of Ray. May use analysis and run_store.
"""
