"""Many trainings in one process, as a search sees them.

`stack_host` is the Ray actor that holds a `fusion_models.training.stack`, `stacked_trial` the Tune trial without
resources that asks it for epochs, `host_pool` says which trial goes to which host, `turns` which of a host's trials
goes on after it has died, `stack_sizing` how many a host should have. Part of `search.execution`, and
may use what it may.
"""
