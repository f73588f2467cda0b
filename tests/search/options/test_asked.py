"""What is asked from Python: natural values mean what a flag would say, others end in one line that names them."""

import dataclasses
import datetime
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fusion_models.data import open_dataset
from fusion_models.data.sources import HALVED
from fusion_models.data.views.cold import WithoutColdDataset
from fusion_models.data.views.relabelled import RelabelledDataset
from fusion_models.metrics.ranking_metric import RankingMetric
from fusion_models.models.variants.film import FiLM
from search.api import Result, audit, load, read, run
from search.audit.options import AuditOptions
from search.options import RunOptions
from search.pipeline.continuation.resuming import plain_options

SMALL = "planted?queries=160&candidates=8"
NATURAL = {
    "NumPy's whole number": ({"seed": np.int64(1)}, {"seed": 1}),
    "a whole float": ({"trials": 12.0, "seed": np.float32(3)}, {"trials": 12, "seed": 3}),
    "a whole number of GPUs": ({"gpus_per_worker": 1}, {"gpus_per_worker": 1.0}),
    "NumPy's truth": ({"ablation": np.bool_(False)}, {"ablation": False}),
    "NumPy's text": ({"sampler": np.str_("gp"), "name": np.str_("a")}, {"sampler": "gp", "name": "a"}),
    "seconds": ({"time_budget": 1800, "epoch_limit": 2.5}, {"time_budget": "1800s", "epoch_limit": "2.5s"}),
    "a length of time": ({"time_budget": datetime.timedelta(minutes=30)}, {"time_budget": "1800s"}),
    "NumPy's length of time": ({"time_budget": np.timedelta64(30, "m")}, {"time_budget": "1800s"}),
    "a part of a second": ({"epoch_limit": np.timedelta64(2500, "ms")}, {"epoch_limit": "2.5s"}),
    "a stack of so many": ({"stack": 4}, {"stack": "4"}),
    "a stack of NumPy": ({"stack": np.int32(4)}, {"stack": "4"}),
    "paths": ({"results": Path("a/b"), "data": Path("c")}, {"results": "a/b", "data": "c"}),
    "a class": ({"model": FiLM}, {"model": "fusion_models.models.variants.film:FiLM"}),
    "a run": ({"warm_from": Result(Path("a"))}, {"warm_from": "a"}),
    "a mapping": (
        {"set": {"model.modalities": ["visual", "text"], "model.standardise": True, "train.epochs": np.int64(3)}},
        {"set": ("model.modalities=visual+text", "model.standardise=True", "train.epochs=3")},
    ),
    "a tuple of names": ({"set": {"model.modalities": ("text",)}}, {"set": ("model.modalities=text",)}),
    "pairs": ({"set": [("loss.unimodal", 0.1)]}, {"set": ("loss.unimodal=0.1",)}),
    "texts": ({"set": ["model.width=64"]}, {"set": ("model.width=64",)}),
    "a text": ({"set": "model.width=64"}, {"set": ("model.width=64",)}),
}


@pytest.mark.parametrize("case", NATURAL)
def test_a_natural_value_means_what_a_flag_says(case):
    given, meant = NATURAL[case]
    options = RunOptions(phase="phase1", **given)
    assert {name: getattr(options, name) for name in meant} == meant
    assert all(type(getattr(options, name)) is type(value) for name, value in meant.items())
    assert json.loads(json.dumps(plain_options(options))) == plain_options(options)
    assert dataclasses.replace(options) == options


MISTAKES = {
    "text for a number": ({"trials": "12"}, "trials is a str ('12'): give a whole number"),
    "and for epochs": ({"epochs": "4"}, "epochs is a str ('4'): give a whole number"),
    "and for places": ({"max_concurrent": "2"}, "max_concurrent is a str ('2'): give a whole number"),
    "a fraction": ({"seed": 1.5}, "seed is a float (1.5): give a whole number"),
    "truth for a number": ({"trials": True}, "trials is a bool (True): give a whole number"),
    "nothing": ({"seed": None}, "seed is a NoneType (None): give a whole number"),
    "text for truth": ({"resume": "yes"}, "resume is a str ('yes'): give True or False"),
    "a number for truth": ({"fresh": 1}, "fresh is a int (1): give True or False"),
    "another scheduler": ({"scheduler": "asha"}, "scheduler = 'asha': did you mean moasha"),
    "another sampler": ({"sampler": "tp"}, "sampler = 'tp': did you mean tpe"),
    "another tracker": ({"track": "mlfow"}, "track = 'mlfow': did you mean mlflow"),
    "another space": ({"model_space": ["own"]}, "model_space = ['own']: "),
    "facts": ({"facts": {"users": 3}}, "facts is a dict ({'users': 3}): give the path of a TOML file"),
    "an endless time": ({"time_budget": float("nan")}, "--time-budget must look like"),
    "no time": ({"time_budget": 0}, "--time-budget must be a time above 0"),
    "a negative time": ({"epoch_limit": datetime.timedelta(seconds=-1)}, "--epoch-limit must look like"),
    "months": ({"time_budget": np.timedelta64(2, "M")}, "time_budget is a timedelta64 (np.timedelta64(2,'M')): give"),
    "a span of no unit": ({"time_budget": np.timedelta64(5)}, "time_budget is a timedelta64 (np.timedelta64(5)): give"),
    "a span for a number": ({"trials": np.timedelta64(5, "s")}, "trials is a timedelta64 (np.timedelta64(5,'s')): "),
    "a span for a stack": ({"stack": np.timedelta64(5, "s")}, "stack is a timedelta64 (np.timedelta64(5,'s')): "),
    "a span for GPUs": ({"gpus_per_worker": np.timedelta64(1, "s")}, "gpus_per_worker is a timedelta64 ("),
    "a broken stack": ({"stack": 2.5}, "stack is a float (2.5): give text"),
    "a class of nobody": ({"model": type("Net", (), {"__module__": "__main__"})}, "which workers cannot import"),
    "an object": ({"model": FiLM.__init__}, "model is a function"),
    "a frame": ({"data": pd.DataFrame({"a": [1]})}, "data is a DataFrame ("),
    "no changes": ({"set": 3}, "set is a int (3): give a mapping of recipe keys"),
    "a change of nothing": ({"set": [3]}, "set holds 3: give a mapping of recipe keys"),
    "a change to nothing": ({"set": {"model.width": None}}, "set: model.width is None: give a number, text"),
    "a change to a table": ({"set": {"model.width": {"a": 1}}}, "set: model.width is {'a': 1}: give a number, text"),
    "a seed below 0": ({"seed": -1}, "--seed must be a whole number from 0 to 2000000000, got -1"),
    "a seed of 32 bits": ({"seed": 4294967296}, "--seed must be a whole number from 0"),
    "GPUs below 0": ({"gpus_per_worker": -1}, "--gpus-per-worker must be 0, a share such as 0.25, or a whole number"),
    "no number of GPUs": ({"gpus_per_worker": float("nan")}, "--gpus-per-worker must be 0"),
    "endless GPUs": ({"gpus_per_worker": float("inf")}, "--gpus-per-worker must be 0"),
    "a GPU and a half": ({"gpus_per_worker": 1.5}, "--gpus-per-worker must be 0"),
    "a crumb of a GPU": ({"gpus_per_worker": 1e-6}, "--gpus-per-worker must be 0"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_any_other_value_is_named_in_one_line_before_anything_is_made(case, tmp_path):
    given, said = MISTAKES[case]
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        run(**{"phase": "phase1", "results": tmp_path / "r", "data": SMALL} | given)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match=re.escape(said)):
        RunOptions(phase="phase1", **given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"members": "3"}, "members is a str ('3'): give a whole number"),
        ({"phase": ["phase1"]}, "phase = ['phase1']: "),
        ({"seed": -1}, "--seed must be a whole number from 0"),
        ({"facts": {}}, "facts is a dict ({}): give the path of a TOML file"),
        ({"data": pd.DataFrame()}, "data is a DataFrame ("),
    ],
)
def test_an_audit_says_so_too(given, said, tmp_path):
    with pytest.raises(ValueError, match=re.escape(said)):
        audit(**{"results": tmp_path, "data": SMALL, "scores": pd.DataFrame()} | given)


def test_an_audit_takes_natural_values(small_data):
    options = AuditOptions(answer_limit=datetime.timedelta(minutes=2), seed=np.int64(1), members=2.0, data=small_data)
    assert (options.answer_limit, options.seed, options.members) == ("120s", 1, 2)
    assert options.data == small_data.source


def test_an_open_dataset_is_taken_by_its_place(small_data, monkeypatch):
    asked = []
    monkeypatch.setattr("search.api.start", lambda options, console, *, phase: asked.append(options))
    run(data=small_data, phase="phase1")
    assert asked[0].data == small_data.source


def test_what_is_no_run_is_named(tmp_path, small_data):
    for opened in (read, load):
        with pytest.raises(ValueError, match=r"run is a int \(3\): give a run's folder or URI, or a Result"):
            opened(3)
        with pytest.raises(ValueError, match="holds no run"):
            opened(Result(tmp_path))
    with pytest.raises(ValueError, match="trial is a int"):
        load(tmp_path, trial=3)
    with pytest.raises(ValueError, match="data is a DataFrame"):
        load(tmp_path, data=pd.DataFrame())
    with pytest.raises(ValueError, match="holds no run"):
        load(tmp_path, data=small_data)


@pytest.mark.parametrize("what", [RunOptions, AuditOptions])
def test_a_halved_dataset_is_asked_for_as_one(small_data, what):
    kind = {"phase": "phase1"} if what is RunOptions else {}
    for data in (small_data.halved(), open_dataset(small_data.source + HALVED)):
        asked = what(data=data, **kind).data
        assert asked == small_data.source + HALVED
        assert open_dataset(asked).splits == data.splits


VIEWS = {
    "another metric": (lambda data: data.measured_by(RankingMetric("ndcg", 5)), "data is measured by nDCG@5"),
    "another metric of a half": (
        lambda data: data.halved().measured_by(RankingMetric("mrr")),
        "data is measured by MRR",
    ),
    "without cold items": (lambda data: WithoutColdDataset(data, 0.3, "visual"), "data is a WithoutColdDataset"),
    "other labels": (lambda data: RelabelledDataset(data, "permuted", 0), "data is a RelabelledDataset"),
    "a tuned V1": (lambda data: data.with_tuned_v1("k", data.v1.astype(np.float32)), "data is a dataset with a tuned"),
}


@pytest.mark.parametrize("case", VIEWS)
def test_a_view_that_its_place_does_not_open_is_refused(case, small_data):
    view, said = VIEWS[case]
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        RunOptions(phase="phase1", data=view(small_data))
    assert small_data.source in str(caught.value)
