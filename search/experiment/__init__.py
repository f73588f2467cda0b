"""A/B experiments on rankers: pure functions of arrays, no Ray, nothing that runs by itself.

Sizes, assignment, analysis of means, shares and ratios, looks at any time, guardrails, rollout plan
(docs/experiments.md). Beside `run_store` the lowest package: uses `fusion_models.metrics` alone.
"""
