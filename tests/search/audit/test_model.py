"""A V2 as a model: how its inputs are named, what a bad one is told, and that ours scores as it scores here."""

import dataclasses
import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from outside import broken_models

from fusion_models import export
from fusion_models.data import open_dataset
from fusion_models.evaluation import Blanking, evaluate, split_lists
from fusion_models.metrics import BLANKS
from fusion_models.models import Ensemble
from fusion_models.quantities import numbers
from fusion_models.training import start, train
from search.audit.given import anchored_interaction, given_model, masked_shapley
from search.audit.model import process
from search.audit.model.files import ModelError, Opened, chosen, open_model, require_known
from search.audit.model.input_map import InputMap, mapped_inputs, read_input_map
from search.audit.model.measure import measure
from search.audit.model.process import measured_model
from search.audit.model.scorer import scorer_of
from spaces import PHASES

MODALITIES = ("visual", "text", "metadata")
EMPTY = InputMap(inputs={})


def opened(run, names=None):
    return Opened(name="v2", run=run, names=names, types={}, runtime="Python")


def batch_of(data):
    return data.gather(data.rows("test")[:5])


def test_flat_documents_come_without_padding_and_lists_one_by_one_or_with_their_mask():
    data = open_dataset("planted?queries=160&candidates=8&candidates_spread=0.5")
    batch, seen = batch_of(data), []

    def first_column(inputs):
        seen.append({name: x.shape for name, x in inputs.items()})
        return next(iter(inputs.values()))[..., 0]

    expected = torch.where(batch.valid, batch.features["text"][..., 0], 0.0).double()
    documents, (lists, longest) = int(batch.valid.sum()), batch.valid.shape
    for text, documents_as in (("a=text", "flat"), ("a=text", "lists"), ("a=text,m=valid", None)):
        given = read_input_map(text, "v2", MODALITIES)
        given = InputMap(inputs=given.inputs, documents=documents_as)
        scores = scorer_of(opened(first_column), given, MODALITIES, lambda: None)(batch)
        assert torch.equal(scores, expected)
    shapes = [call["a"][:-1] for call in seen]
    assert shapes[0] == (documents,)
    assert shapes[1:-1] == [(1, int(n)) for n in batch.valid.sum(1)]
    assert seen[-1] == {"a": (lists, longest, data.schema.width("text")), "m": (lists, longest)}


def test_columns_are_joined_in_the_order_of_the_map(small_data):
    batch, kept = batch_of(small_data), {}
    given = read_input_map("X=metadata+visual+v1", "v2", MODALITIES)
    scorer_of(opened(lambda inputs: kept.update(inputs) or inputs["X"][:, 0]), given, MODALITIES, lambda: None)(batch)
    wanted = [batch.features["metadata"], batch.features["visual"], batch.v1.unsqueeze(-1)]
    assert np.array_equal(kept["X"], torch.cat([x[batch.valid].float() for x in wanted], dim=-1).numpy())
    assert kept["X"].dtype == np.float32


BAD = {
    "wrong_shape": r"broken gave scores of shape \(\d+, 2\) for visual .*: \d+ are wanted",
    "too_few": r"broken gave scores of shape",
    "words": r"gave <U4 for .*: give an array of numbers",
    "not_finite": r"gave nan for 1 of \d+ documents; the first: candidate 3 of query row \d+",
    "nothing": r"gave a NoneType for .*: give an array of numbers, one a document",
    "a_frame": r"gave a DataFrame for",
    "a_pair": r"gave a tuple for",
    "a_silent_error": r"failed on visual .*: Silent: Silent \(",
    "raises": r"failed on visual .*: KeyError: 'no such weight' \(.*broken_models.py, line \d+\)",
}


@pytest.mark.parametrize("name", BAD)
def test_scores_that_are_none_are_refused_in_one_line(small_data, name):
    model = Opened(name="broken", run=getattr(broken_models, name), names=None, types={}, runtime="Python")
    with pytest.raises(ModelError, match=BAD[name]) as caught:
        scorer_of(model, EMPTY, MODALITIES, lambda: None)(batch_of(small_data))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("width", [1, 2])
def test_a_column_that_scores_do_not_have_is_refused(small_data, width):
    def wide(inputs):
        return np.repeat(next(iter(inputs.values()))[..., :1], width, axis=-1)

    model = Opened(name="v2", run=wide, names=None, types={}, runtime="Python", output="scores", column="3")
    with pytest.raises(ModelError, match=f"gave {width} numbers a document, of which 3 is none: 0 to {width - 1}"):
        scorer_of(model, EMPTY, MODALITIES, lambda: None)(batch_of(small_data))
    last = dataclasses.replace(model, column=str(width - 1))
    assert scorer_of(last, EMPTY, MODALITIES, lambda: None)(batch_of(small_data)).any()


@pytest.mark.parametrize("asked", ["", "scores", "scores:1"])
def test_a_model_without_an_output_says_so(asked):
    with pytest.raises(
        ModelError, match=r"v2\.pt2 has no output that is an array: export a model that returns its scores"
    ):
        chosen(Path("v2.pt2"), [], asked)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hangs", r"gave no answer in 3 s while scoring the validation split: it hangs"),
        ("dies", r"died while scoring the .*: its process ended with status 7; its last line: out of luck"),
        ("dies_and_leaves_a_fork", r"died while scoring the .*: its process ended with status 7"),
        ("reads_threads", r"failed on .*: ValueError: 1 \("),
        ("is_killed", r"died while scoring the .*: its process was killed by SIGKILL \(out of memory\?\)"),
    ],
)
def test_a_model_that_hangs_or_dies_costs_itself(monkeypatch, name, said):
    monkeypatch.setattr(process, "OPENING", 100.0)  # beside other tests the imports alone may take half a minute
    monkeypatch.syspath_prepend(str(Path(broken_models.__file__).parents[1]))
    with pytest.raises(ModelError, match=said) as caught:
        measured_model(
            f"outside.broken_models:{name}",
            EMPTY,
            "planted?queries=160&candidates=8",
            seed=0,
            limit=3.0 if name == "hangs" else 30.0,
            say=lambda doing: None,
        )
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("v2.pkl", r"a .pkl file runs code when it is opened, so it is not: give an .onnx file"),
        ("v2.pt", r"a .pt file runs code when it is opened"),
        ("nowhere.onnx", r"is not there: give an .onnx file"),
        ("just words", r"is no model: give an .onnx file"),
        ("no_such_package:score", r"cannot be imported: ModuleNotFoundError: No module named 'no_such_package'"),
        ("os.path:nothing", r"cannot be imported: AttributeError"),
        ("os:sep", r"is a str, which cannot be called"),
    ],
)
def test_what_is_no_model_says_so(model, said):
    with pytest.raises(ModelError, match=said):
        open_model(model, "", 1)


def reduced(kind, shape=("N", 32), name="text"):
    """An ONNX graph that sums its input's last dimension."""
    value = onnx.helper.make_tensor_value_info
    axes = onnx.numpy_helper.from_array(np.array([-1]), "axes")
    nodes = [
        onnx.helper.make_node("Cast", [name], ["x"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("ReduceSum", ["x", "axes"], ["Y"], keepdims=0),
    ]
    given, outs = value(name, kind, list(shape)), [value("Y", onnx.TensorProto.FLOAT, list(shape[:-1]))]
    return nodes, [given], outs, [axes]


def written(parts, path, opset=17, ir_version=9):
    nodes, given, outs, constants = parts
    graph = onnx.helper.make_graph(nodes, "g", given, outs, constants)
    opsets = [onnx.helper.make_opsetid("", opset)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=ir_version), path)
    return str(path)


@pytest.mark.parametrize("kind", ["FLOAT", "DOUBLE", "FLOAT16", "INT8", "INT64", "UINT16"])
def test_an_onnx_input_of_any_number_type(small_data, kind, tmp_path):
    path = written(reduced(getattr(onnx.TensorProto, kind)), tmp_path / "v2.onnx")
    batch = batch_of(small_data)
    counted = batch._replace(features=batch.features | {"text": batch.features["text"].abs().round()})
    model = open_model(path, "", 1)
    scores = scorer_of(model, EMPTY, MODALITIES, lambda: None)(counted)
    assert scores.std() > 0
    if "INT" in kind:
        with pytest.raises(ModelError, match=r"its input text takes u?int\d+, which cannot hold -?\d.*: export"):
            scorer_of(model, EMPTY, MODALITIES, lambda: None)(batch)
        scores = scorer_of(model, EMPTY, MODALITIES, lambda: None, rounded=True)(counted)
        assert scores.std() > 0


@pytest.mark.parametrize(
    ("kind", "shape", "said"),
    [
        ("STRING", ("N", 32), r"its input text takes texts, and a dataset holds numbers: export what comes behind"),
        ("FLOAT", (1, 32), r"Got: \d+ Expected: 1 \(it takes a fixed number of documents: export it with a dynamic"),
        ("FLOAT", ("Q", "L", 32), r"Expected: 3 .* \(documents = \"lists\" in --inputs hands whole lists over"),
        ("FLOAT", ("N", 33), r"Got: 32 Expected: 33"),
    ],
)
def test_an_onnx_input_of_another_shape_or_kind_says_what_to_do(small_data, kind, shape, said, tmp_path):
    path = written(reduced(getattr(onnx.TensorProto, kind), shape), tmp_path / "v2.onnx")
    with pytest.raises(ModelError, match=said) as caught:
        scorer_of(open_model(path, "", 1), EMPTY, MODALITIES, lambda: None)(batch_of(small_data))
    assert "\n" not in str(caught.value)


def test_of_several_onnx_outputs_the_scores_are_named(tmp_path):
    nodes, given, outs, constants = reduced(onnx.TensorProto.FLOAT)
    label = onnx.helper.make_tensor_value_info("label", onnx.TensorProto.INT64, [2])
    shape = onnx.helper.make_node("Shape", ["text"], ["label"])
    path = written(([shape, *nodes], given, [label, *outs], constants), tmp_path / "v2.onnx")
    with pytest.raises(ModelError, match=r"has the outputs label, Y, .* a TOML file with output = \"Y\""):
        open_model(path, "", 1)
    assert open_model(path, "Y", 1).names == ["text"]


def test_an_onnx_file_that_is_too_new_or_lacks_its_weights_says_so(tmp_path):
    path = tmp_path / "v2.onnx"
    for newer in ({"opset": 99}, {"ir_version": 99}):
        with pytest.raises(ModelError, match=r"it is newer than this onnxruntime \(.*\): export it for an older opset"):
            open_model(written(reduced(onnx.TensorProto.FLOAT), path, **newer), "", 1)
    _, given, outs, _ = reduced(onnx.TensorProto.FLOAT)
    weights = onnx.numpy_helper.from_array(np.ones((32, 1), dtype=np.float32), "w")
    written(([onnx.helper.make_node("MatMul", ["text", "w"], ["Y"])], given, outs, [weights]), path)
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ModelError, match=r"its weights lie in a file beside it that is not there: .*weights.bin"):
        open_model(str(path), "", 1)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ModelError, match=r"cannot be opened by onnxruntime: .*"):
        open_model(str(path), "", 1)


class Mean(torch.nn.Module):
    def forward(self, text):
        return text.mean(dim=-1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_a_pt2_file_of_any_float_type(small_data, dtype, tmp_path):
    example, dynamic = (torch.zeros(6, 32, dtype=dtype),), ({0: torch.export.Dim("N")},)
    path = tmp_path / "v2.pt2"
    torch.export.save(torch.export.export(Mean(), example, dynamic_shapes=dynamic), path)
    batch = batch_of(small_data)
    scores = scorer_of(open_model(str(path), "", 1), EMPTY, MODALITIES, lambda: None)(batch)
    expected = batch.features["text"].mean(dim=-1).double()
    assert (scores - expected)[batch.valid].abs().max() < 0.02


def test_a_pt2_file_of_another_torch_says_why(tmp_path):
    path, other = tmp_path / "v2.pt2", tmp_path / "other.pt2"
    torch.export.save(torch.export.export(Mean(), (torch.zeros(6, 32),)), path)
    with zipfile.ZipFile(path) as there, zipfile.ZipFile(other, "w") as here:
        for name in there.namelist():
            text = there.read(name)
            if name.endswith("model.json"):
                text = json.dumps(json.loads(text) | {"schema_version": {"major": 99, "minor": 1}}).encode()
            here.writestr(name, text)
    with pytest.raises(
        ModelError, match=r"of torch .*Serialized schema version .*99.* Save it again with this"
    ) as caught:
        open_model(str(other), "", 1)
    assert "\n" not in str(caught.value)


def test_a_pt2_file_that_would_be_unpickled_is_refused(tmp_path):
    path = tmp_path / "v2.pt2"
    for name, text, said in (
        ("data/weights/model_weights_config.json", '{"config": {"w": {"use_pickle": true}}}', "holds pickled objects"),
        ("data/constants/custom_obj_0", "", "holds pickled objects"),
        ("serialized_state_dict.pt", "", "of an old format that pickles its weights"),
    ):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, text)
        with pytest.raises(ModelError, match=said):
            open_model(str(path), "", 1)
    path.write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"is no archive of torch\.export"):
        open_model(str(path), "", 1)


def test_an_onnx_file_that_needs_code_or_is_none_says_what(tmp_path):
    path = tmp_path / "v2.onnx"
    path.write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"cannot be opened by onnxruntime: .*"):
        open_model(str(path), "", 1)
    value = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("Secret", ["X"], ["Y"], domain="com.acme")
    kind = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph([node], "g", [value("X", kind, ["N", 2])], [value("Y", kind, ["N"])])
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("com.acme", 1)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    with pytest.raises(ModelError, match=r"the operator Secret of com.acme is code of its own") as caught:
        open_model(str(path), "", 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image", r"--inputs takes a TOML file, or NAME=COLUMN"),
        ("image=visul", r"--inputs: input image: unknown column 'visul'; did you mean visual"),
        ("nowhere.toml", r"--inputs nowhere.toml cannot be read"),
    ],
)
def test_a_map_that_cannot_be_read_says_so(text, said):
    with pytest.raises(ValueError, match=said):
        read_input_map(text, "v2.onnx", MODALITIES)


def test_a_map_as_a_file(tmp_path):
    path = tmp_path / "inputs.toml"
    path.write_text('documents = "lists"\noutput = "y"\n[inputs]\nimage = "visual"\nrest = ["text", "v1"]\n')
    found = read_input_map(str(path), "v2.onnx", MODALITIES)
    assert found == InputMap(inputs={"image": ("visual",), "rest": ("text", "v1")}, documents="lists", output="y")
    assert InputMap.from_plain(json.loads(json.dumps(found.plain()))) == found
    for text in (mapped_inputs({"image": "visual", "rest": ["text", "v1"]}), mapped_inputs(found.plain())):
        assert read_input_map(text, "v2.onnx", MODALITIES).inputs == found.inputs
    assert read_input_map(mapped_inputs(found.plain()), "v2.onnx", MODALITIES) == found
    path.write_text('documents = "rows"\n')
    with pytest.raises(ValueError, match=r"documents must be flat or lists, got 'rows'"):
        read_input_map(str(path), "v2.onnx", MODALITIES)
    with pytest.raises(ValueError, match=r"nothing says what q hold"):
        scorer_of(opened(None, ["visual", "q"]), EMPTY, MODALITIES, lambda: None)
    both = InputMap(inputs={"visual": ("visual",), "image": ("visual",)})
    with pytest.raises(ValueError, match=r"--inputs names image, and v2 has visual"):
        scorer_of(opened(None, ["visual"]), both, MODALITIES, lambda: None)
    require_known("package.module:call")
    assert "package" not in sys.modules  # no import was tried


@pytest.fixture(scope="module")
def healthy(_own_cache):
    """Two short trainings of the base recipe on a small healthy world."""
    data = open_dataset("planted:healthy?queries=160")
    recipe = PHASES["phase1"].base.updated({"train.epochs": 1})
    members = []
    for seed in (0, 1):
        state = start(recipe, data, seed=seed)
        for _ in train(state, data):
            pass
        members.append(state.model.eval())
    return data, members


@pytest.mark.parametrize("form", ["onnx", "pt2", "onnx of two members"])
def test_our_own_recipe_exported_and_audited_has_the_numbers_of_the_run(healthy, form, tmp_path, one_thread):
    data, members = healthy
    ranker = Ensemble(members) if "two" in form else members[0]
    path = tmp_path / f"ranker.{form.split(' ')[0]}"
    said = export.described_inputs(ranker, data.schema, data.statistics)
    (tmp_path / "inputs.json").write_text(json.dumps(said))
    if form == "pt2":
        torch.export.save(export.export_program(ranker), path)
    else:
        export.export_onnx(ranker, path)
    job = {"model": str(path), "inputs": read_input_map(None, str(path), MODALITIES).plain(), "data": data.source}
    into = tmp_path / "measured.npz"
    measure(job | {"seed": 0, "into": str(into)}, lambda doing: None)
    with np.load(into, allow_pickle=False) as arrays:
        given = given_model(dict(arrays), split_lists(data, "test"), MODALITIES, "test")
    mine, run = given.artefact(1), evaluate(ranker, data, "test", Blanking(kinds=BLANKS)).outputs
    valid = run.lists.valid
    assert np.abs(mine.scores - run.scores)[valid].max() < 1e-6
    told = numbers(mine)
    for name, value in numbers(run).items():
        if "attention" not in name:
            assert told[name] == pytest.approx(value, abs=1e-6), name
    assert {k for k in told if "masking_drop" in k} == {k for k in numbers(run) if "masking_drop" in k}
    assert sum(masked_shapley(given, 1).values()) == pytest.approx(told["ndcg"] - given.kept[frozenset()].ndcg.mean())
    assert (given.interaction is None) == (said["rows"] == "lists")
    assert anchored_interaction(given, 1) is not None  # which then stands in for it
    assert len(given.latency) >= 60


@pytest.mark.parametrize(("said", "held"), [({"columns": {}}, "v1"), ({}, "v1_seen")], ids=["new", "older"])
def test_our_export_takes_v1_s_score_and_an_older_one_what_was_made_of_it(tmp_path, said, held):
    names = ["visual", "context", "v1", "valid"]
    (tmp_path / "inputs.json").write_text(json.dumps({"inputs": names, "rows": "lists"} | said))
    found = read_input_map(None, str(tmp_path / "v2.onnx"), MODALITIES)
    assert found.inputs == {name: (name,) for name in names} | {"v1": (held,)}


FOREIGN = {
    "a list": '["visual", "text"]',
    "no JSON": "{",
    "not of text": b"\xff\xfe",
    "of another tool": '{"inputs": {"visual": "float32"}, "rows": "lists"}',
    "without inputs": '{"rows": "lists"}',
    "of other names": '{"rows": "lists", "inputs": ["pixels", ["text"]]}',
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_another_tool_s_inputs_json_beside_the_model_says_nothing(tmp_path, content):
    (tmp_path / "inputs.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert read_input_map(None, str(tmp_path / "v2.onnx"), MODALITIES) == InputMap(inputs={})
