"""From a searched front to a verdict: the short list, the finalist, the one look at the test split.

`test_split` alone opens a deciding split, after the finalist is fixed on disk.
"""
