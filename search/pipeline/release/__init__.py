"""Phase 4: integrity checks, the ways to run the finalist, and the plan of its rollout.

`production` is the phase; `integrity` runs `fusion_models.integrity` on the run's data, `runtime_variants` exports
the artefact and times it. May use the rest of `search.pipeline`.
"""
