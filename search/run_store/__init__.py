"""What a run keeps on disk: its folder, journal, records, artifacts, tables, looks at the test split, mirror.

The lowest package: uses spaces and fusion_models alone.
"""
