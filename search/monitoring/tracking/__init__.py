"""Experiment trackers, off by default (`--track`): one parent run a run, a child a training, its files as artifacts.

Neither Ray's loggers nor Optuna's callbacks serve: Ray's know a Tune trial, which here may be an idle process or a
measurement, and no parent; Optuna's are called by `Study.optimize`, and this search asks and tells. `observer` carries
what happens to a tracker on a thread of its own; `mlflow` and `wandb` write it there.
"""

from search.monitoring.tracking.observer import Tracker, Tracking, tracking_for

__all__ = ["Tracker", "Tracking", "tracking_for"]
