"""Many trainings of one structure in one set of kernels."""

from fusion_models.training.stack.meeting import Meeting, why_alone
from fusion_models.training.stack.stack import Outcome, Stack, train_stack
from fusion_models.training.stack.structure import Structure, differences, structure

__all__ = ["Meeting", "Outcome", "Stack", "Structure", "differences", "structure", "train_stack", "why_alone"]
