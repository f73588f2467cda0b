"""Planted worlds: datasets drawn from dials, so that what is true of them is known.

`config` has the dials, `presets` the worlds with a name, `draw` the numbers, `truth` what follows from them, `write`
the three tables. May use `fusion_models.data.tables`, the splits and the errors; never the arrays or an open dataset.
"""

from fusion_models.data.planted.config import PlantedConfig
from fusion_models.data.planted.draw import GENERATOR, Planted, draw, view
from fusion_models.data.planted.presets import planted_config
from fusion_models.data.planted.write import tables, write_planted

__all__ = ["GENERATOR", "Planted", "PlantedConfig", "draw", "planted_config", "tables", "view", "write_planted"]
