"""Each chart of the report as one function of a run's tables; `figure` draws them all."""
