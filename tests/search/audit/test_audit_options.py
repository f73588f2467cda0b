"""The flags of an audit are a promise, each is explained, and what cannot be read says so in one line."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from search.api import audit
from search.audit.options import AuditOptions
from search.run_store.folder import FORMAT, RunFolderError

PAGE = (Path(__file__).parents[3] / "docs" / "audit.md").read_text()
FLAGS = {
    *("data", "scores", "model", "inputs", "answer_limit"),
    *("phase", "suspect", "members", "facts", "seed", "results", "name", "fresh"),
}


def test_flags_are_the_promised_ones_and_stand_on_the_page():
    assert set(AuditOptions.__dataclass_fields__) == FLAGS
    for flag in FLAGS:
        assert f"`--{flag.replace('_', '-')}" in PAGE, flag


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "search.run", "audit", *arguments], capture_output=True, text=True, check=False
    )


def test_a_mistake_is_one_line_and_no_look(tmp_path):
    done = run(
        "--scores", "/nowhere/v2.parquet", "--data", "planted?queries=160&candidates=8", "--results", str(tmp_path)
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "/nowhere/v2.parquet: is not there." in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "nothing to audit"),
        ({"model": len}, "model is a builtin_function_or_method"),
        (
            {"model": 3},
            r"model is a int \(3\): give the path of an .onnx or .pt2 file, or the import name of a function",
        ),
        ({"model": "v2.onnx", "inputs": ["visual"]}, "inputs is a list .*: give a mapping, or the text or file"),
        ({"model": "v2.onnx", "inputs": {"x": len}}, "inputs maps an input of the model to a column"),
        ({"members": "3"}, r"members is a str \('3'\): give a whole number"),
        ({"seed": None}, "seed is a NoneType"),
        ({"members": 0}, "--members must be at least 1"),
        ({"model": "v2.pkl"}, "a .pkl file runs code when it is opened"),
        ({"inputs": "X=visual"}, "--inputs says what the inputs of a model hold: give --model too"),
        ({"model": "v2.onnx", "members": 2}, "--members counts trainings of a table"),
        ({"answer_limit": "soon"}, "--answer-limit must look like 90s"),
        ({"suspect": "clicks", "scores": pd.DataFrame()}, "--suspect: "),
        (
            {"data": "planted?queries=160&candidates=8&modalities=photo,review", "scores": pd.DataFrame()},
            r"--suspect: the suspect must be a modality of the dataset \(photo, review\), got 'visual'",
        ),
        ({"phase": "phase9"}, "phase = 'phase9'"),
        ({"trials": 3}, "unknown option 'trials'"),
        ({"results": "s3://bucket/results"}, "writes to a folder of this machine"),
        ({"scores": pd.DataFrame({"query_id": ["a"]})}, "column 'item_id': missing"),
    ],
)
def test_from_python_a_mistake_is_a_value_error(given, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        audit(**({"data": "planted?queries=160&candidates=8", "results": tmp_path} | given))


def test_a_finished_audit_is_not_looked_at_again(tmp_path):
    place = tmp_path / "audit"
    place.mkdir()
    (place / "run.json").write_text(json.dumps({"format": FORMAT, "phase": "audit", "end": "now"}))
    with pytest.raises(RunFolderError, match=r"an audit is a look of its own: give another --name, or --fresh"):
        audit(scores=pd.DataFrame(), data="planted", results=tmp_path)
