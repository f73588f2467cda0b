"""One training in several processes: worker groups that stay up, and the coordinator that hands them jobs.

`ddp_trial` is the Tune trial, `worker_groups` starts groups by Ray Train, `process_groups` joins their processes,
`coordinator` is where trials and groups meet. Part of `search.execution`, and may use what it may.
"""
