"""A V2 as a model: opened in a process of its own, blanked, shuffled, timed and taken apart there.

`input_map` says which input is which of our columns, `files` opens ONNX, torch.export and callables, `scorer` turns one
into a scorer of batches, `measure` is what the process does, `process` starts it, waits for it and reads what it left.
No model file is unpickled.
"""
