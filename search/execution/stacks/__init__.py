"""Many trainings in one process: hosts that train what has one structure in one set of kernels, and their clients."""
