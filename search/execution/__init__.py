"""All that knows Ray: where trainings run, how they are told and heard, and what happens when one fails.

`tuning` runs stages through Tune; `ddp` trains one ranker in several processes. May use study, analysis and run_store.
"""
