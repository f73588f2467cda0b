"""Shadow deployment: V1 answers, V2 is scored behind it. Needs the extra `serve` (docs/shadow.md).

May use the packages below the pipeline; nothing but the entry module `search.shadow` uses it.
"""
