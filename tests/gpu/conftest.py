"""Everything here needs a CUDA device: `benchmarks/on_a_gpu.sh` runs it where there is one."""

from pathlib import Path

import pytest
import torch


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            if not torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason="NOT TESTED: no CUDA device here"))
