"""What a run is asked to do: every flag of the command line, and the same from Python.

`run_options` has the flags and their checks, `asked` turns what Python gives (lengths of time, mappings, classes, open
datasets) into what a flag would say. May use `run_store`, `spaces` and `fusion_models`.
"""

from search.options.run_options import FIRST_STEP, CommandLine, RunOptions, can_track, require_seed, seconds

__all__ = ["FIRST_STEP", "CommandLine", "RunOptions", "can_track", "require_seed", "seconds"]
