"""Other datasets made of one that is open, without copying it: other labels, a planted signal, lists without cold items.

Lies above `dataset`; used by trainings and probes.
"""
