"""Progress of long work, and what errors of other libraries say.

The work calls `tell` or `told`; whoever shows it listens with `heard_by`, as `bar` does.
"""

from fusion_models.work.telling import heard_by, tell, told

__all__ = ["heard_by", "tell", "told"]
