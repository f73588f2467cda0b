from __future__ import annotations

import pytest
from padded_lists import Lists, random_batch, random_lists

from fusion_models.data.batch import Batch


@pytest.fixture(params=range(3))
def lists(request: pytest.FixtureRequest) -> Lists:
    return random_lists(request.param)


@pytest.fixture
def batch() -> Batch:
    return random_batch(0)
