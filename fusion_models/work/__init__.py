"""Long work says how far it is: `tell` and `told` where it is done, `heard_by` where it is shown (`bar`)."""

from fusion_models.work.telling import heard_by, tell, told

__all__ = ["heard_by", "tell", "told"]
