"""A training in several real processes, for tests: each rank runs `train` over gloo and writes what it saw."""

import json
import os
import pickle
from pathlib import Path

import pyarrow.parquet as pq
import torch
import torch.distributed
import torch.multiprocessing

import fusion_models.training.loop as loop
from fusion_models.config import Recipe
from fusion_models.data import open_dataset
from fusion_models.process_group import ALONE, TorchProcessGroup
from fusion_models.training import DivergedError, load, save, start, train

CLIPART = Path(loop.__file__).parents[1] / "data" / "clipart"
QUERIES = {"train": 37, "validation": 90}


def cut_clipart(folder):
    """A dataset with pictures and lists of 3 to 12 candidates, some without a relevant one."""
    folder.mkdir()
    queries = pq.read_table(CLIPART / "queries.parquet").to_pandas()
    kept = [queries[queries["split"] == split].head(count) for split, count in (QUERIES | {"test": 2}).items()]
    judged = pq.read_table(CLIPART / "judgements.parquet").to_pandas()
    names = {query for part in kept for query in part["query_id"]}
    judged = judged[judged["query_id"].isin(names)].sample(frac=1.0, random_state=0)
    place = judged.groupby("query_id").cumcount()
    length = judged["query_id"].map({query: 3 + 5 * i % 10 for i, query in enumerate(sorted(names))})
    judged = judged[place < length]
    items = pq.read_table(CLIPART / "items.parquet").to_pandas()
    tables = {
        "queries": queries[queries["query_id"].isin(names)],
        "judgements": judged,
        "items": items[items["item_id"].isin(judged["item_id"])],
    }
    for name, table in tables.items():
        table.to_parquet(folder / f"{name}.parquet", index=False)
    return str(folder)


def trained(source, changes, *, process_group=ALONE, seed=0, folder=None, stop=None):
    """Every step's loss parts and every epoch's evaluation of one training.

    With a `folder`: from its checkpoint if there is one, and saved there after epoch `stop`, which ends it.
    """
    steps, epochs = [], []
    real = loop.train_step

    def recorded(*arguments, **keywords):
        parts = real(*arguments, **keywords)
        steps.append({name: float(value) for name, value in parts.items()})
        return parts

    data = open_dataset(source)
    state = start(Recipe().updated(changes), data, seed=seed)
    if folder is not None and Path(folder).exists():
        state = load(Path(folder), Recipe().updated(changes), data, seed=seed)
    loop.train_step = recorded
    try:
        for result in train(state, data, process_group=process_group):
            epochs.append((result.evaluation.numbers(), result.evaluation.ndcg))
            if result.epoch == stop:
                break
        if stop is not None and process_group.rank == 0:
            save(state, Path(folder))
    except DivergedError as error:
        epochs.append(str(error))
    finally:
        loop.train_step = real
    return {"steps": steps, "epochs": epochs, "random": state.random_state, "order": state.generator.get_state()}


def _rank(rank, size, folder):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "RANK": str(rank), "WORLD_SIZE": str(size)}
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(str(folder / "store"), size)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=size)
    for name, (source, changes, more) in json.loads((folder / "trainings.json").read_text()).items():
        found = trained(source, changes, process_group=TorchProcessGroup(), **more)
        (folder / f"{name}.{rank}").write_bytes(pickle.dumps(found))
    torch.distributed.barrier()  # so that none leaves while another still writes to it
    torch.distributed.destroy_process_group()


def train_in_ranks(folder, trainings, size=2):
    """Trainings by name: (source, recipe changes, keywords of `trained`). By name: what each of `size` ranks saw."""
    (folder / "trainings.json").write_text(json.dumps(trainings))
    torch.multiprocessing.spawn(_rank, (size, folder), nprocs=size)
    return {name: [pickle.loads((folder / f"{name}.{r}").read_bytes()) for r in range(size)] for name in trainings}
