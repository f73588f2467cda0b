"""Other datasets made of an open one, without copying it: other labels, a planted signal, lists without cold items.

Lies above `dataset`; used by trainings and probes.
"""
