"""Many trainings of one structure in one set of kernels.

`structure` says which recipes may share, `rows` turns a training's state into a row of a matrix and back, `tables`
and `plan` lay ready what steps read, `network` calls one ranker's code for all rows, `member_dropout` gives each its
masks, `stepping` takes (or records) a step, `stack` is the loop, `groups` holds one stack or several as memory allows,
`meeting` brings together threads that each ask for an epoch. Uses `training`, never the other way round, and nothing of
Ray: hosts and trials are `search.execution.stacks`.
"""

from fusion_models.training.stack.meeting import Meeting, why_alone
from fusion_models.training.stack.stack import Outcome, Stack, train_stack
from fusion_models.training.stack.structure import Structure, differences, structure

__all__ = ["Meeting", "Outcome", "Stack", "Structure", "differences", "structure", "train_stack", "why_alone"]
