"""Vectors out of raw material: the pictures and words of a dataset's tables, through models of somebody else.

| file | holds |
|---|---|
| `encoders` | what a model is here, and which one a name or a file means |
| `onnx_graph`, `onnx_models`, `preparation` | a `.onnx` file, run by onnxruntime; how a picture becomes its input |
| `library` | a name or folder that sentence-transformers loads |
| `raw` | the pictures and words of a table, row by row, and which rows have none |
| `parts` | finished rows on disk: what was computed once is not computed again |
| `vectors` | one column made, with the training mean where a row has nothing |

May use the door (`tables`), pictures (`arrays.thumbnails`) and errors; `commands.embed` writes the dataset.
"""

from fusion_models.data.embedding.encoders import Encoder, picture_encoder, word_encoder
from fusion_models.data.embedding.vectors import Column, make_column

__all__ = ["Column", "Encoder", "make_column", "picture_encoder", "word_encoder"]
