"""A/B experiments on rankers: pure functions of arrays, no Ray, nothing that runs by itself."""
