"""Tables lie on a device once in a process, count all that they hold, and pictures come where somebody decodes them."""

import gc
import weakref

import pytest
import torch

from fusion_models.config import Recipe
from fusion_models.data import open_dataset
from fusion_models.training import start
from fusion_models.training.stack import Stack, tables
from fusion_models.training.stack.tables import HostTables, Tables, table_bytes, tables_for

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
SOURCE = "planted?queries=130&candidates=6"
GIB = 1024**3


@pytest.fixture(scope="module")
def data(_own_cache):
    return open_dataset(SOURCE)


def tensors(found):
    single = [value for value in vars(found).values() if isinstance(value, torch.Tensor)]
    return [*found.features.values(), *single]


def test_views_of_one_dataset_share_what_is_the_same(data):
    scored = data.with_tuned_v1("key", data.v1.astype("float32"))
    first, again, view = Tables(data, CPU), Tables(open_dataset(SOURCE), CPU), Tables(scored, CPU)
    assert {id(tensor) for tensor in tensors(first)} == {id(tensor) for tensor in tensors(again)}
    assert {id(tensor) for tensor in tensors(view)} - {id(tensor) for tensor in tensors(first)} == {id(view.tuned_v1)}


def test_what_tables_take_is_all_that_they_hold_and_once(data, monkeypatch):
    monkeypatch.setattr(tables, "_placed", weakref.WeakValueDictionary())  # other tests' may live on
    scored = data.with_tuned_v1("key", data.v1.astype("float32"))
    wanted = table_bytes(scored, CPU)
    held = Tables(scored, CPU)
    assert wanted == sum(tensor.nbytes for tensor in tensors(held)) == tables.placed_bytes(CPU)
    assert table_bytes(scored, CPU) == 0
    del held
    gc.collect()
    assert table_bytes(scored, CPU) == wanted


@pytest.mark.parametrize(
    ("size", "free", "share", "fits"),
    [
        (30, 80, 1.0, True),
        (33, 80, 1.0, False),
        (7, 80, 0.25, True),
        (9, 80, 0.25, False),
        (7, 16, 0.25, False),
        (30, 80, 2.0, True),
    ],
)
def test_tables_fit_into_the_part_of_a_gpu_that_is_this_processs(size, free, share, fits, data, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free * GIB, 80 * GIB))
    monkeypatch.setattr(tables, "table_bytes", lambda data, device: size * GIB)
    assert tables.fits(data, CUDA, share) == fits


def test_tables_for_which_another_process_was_too_quick_stay_on_the_host(data, monkeypatch):
    def full(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(tables, "Tables", full)
    assert isinstance(tables_for(data, CPU), HostTables)


@pytest.mark.parametrize(("weight", "read"), [(0.0, 0), (0.2, 1)])
@pytest.mark.usefixtures("_own_cache")
def test_pictures_are_read_where_a_ranker_decodes_them_and_once(weight, read, monkeypatch):
    data, asked = open_dataset("clipart"), []
    pictures = type(data).thumbnails
    monkeypatch.setattr(type(data), "thumbnails", lambda self, rows: asked.append(len(rows)) or pictures(self, rows))
    small = {"model.variant": "concat_mlp", "model.width": 8, "model.layers": 1, "loss.reconstruction": weight}
    stacks = [Stack(data) for _ in range(2)]
    for stack in stacks:
        stack.join(start(Recipe().updated(small), data, seed=0))
        stack._prepared()
    assert asked == [data.counts["items"]] * read
