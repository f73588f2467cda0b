"""Shadow deployment: V1 answers, V2 is scored behind it. Needs the extra `serve`."""
