"""Many rankers: study, trials, front, confirmation and decision."""
