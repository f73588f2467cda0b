"""Phase 4: integrity checks, the ways to run the finalist, and the plan of its rollout."""
