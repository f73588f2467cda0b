"""Phase 4: integrity checks, the ways to run the finalist, and the plan of its rollout.

`production` is the phase; `integrity` runs `fusion_models.integrity` on the run's data, `rungs` exports the artefact,
`runtime_variants` times it, by `variant_quality` for what it is worth. May use the rest of `search.pipeline`.
"""
