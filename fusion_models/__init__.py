"""One ranker: judged queries in, scores and evidence out. Knows nothing of Ray, Optuna or a command line."""
