"""What a model's file says of its inputs and outputs is read: names, ranks, types, and where the scores stand."""

import numpy as np
import onnx
import pytest
import torch
from outside import broken_models

from search.audit.model.files import ModelError, Opened, open_model
from search.audit.model.input_map import InputMap, read_input_map
from search.audit.model.scorer import known_map, scorer_of

MODALITIES = ("visual", "text", "metadata")
EMPTY = InputMap(inputs={})
N, L = torch.export.Dim("N"), torch.export.Dim("L")


def batch_of(data):
    return data.gather(data.rows("test")[:5])


def scored(model, data, given=EMPTY):
    return scorer_of(model, given, MODALITIES, lambda: None)(batch_of(data))


def opened(run, names=None):
    return Opened(name="v2", run=run, names=names, types={}, runtime="Python")


def first_of(batch, modality):
    return torch.where(batch.valid, batch.features[modality][..., 0], 0.0).double()


@pytest.mark.parametrize("text", ["text=text,visual=visual", "text=text,visual=visual,m=valid"])
def test_a_callable_that_changes_its_inputs_changes_no_data(small_data, text):
    batch = batch_of(small_data)
    before = {name: x.clone() for name, x in batch.features.items()}
    given = InputMap(inputs=read_input_map(text, "v2", MODALITIES).inputs)

    def changes(inputs):
        return broken_models.normalises_in_place({k: x for k, x in inputs.items() if k != "m"})

    scorer = scorer_of(opened(changes), given, MODALITIES, lambda: None)
    assert torch.equal(scorer(batch), scorer(batch))
    assert all(torch.equal(x, batch.features[name]) for name, x in before.items())


def test_a_callable_is_told_as_bool_which_places_are_real(small_data):
    def masked(inputs):
        scores = inputs["x"][..., 0].copy()
        scores[~inputs["m"]] = 0.0
        return scores

    given = read_input_map("x=text,m=valid", "v2", MODALITIES)
    batch = batch_of(small_data)
    assert torch.equal(scored(opened(masked), small_data, given), first_of(batch, "text"))


def exported(path, module, example, dynamic, named=None):
    program = torch.export.export(module, example, named, dynamic_shapes=dynamic)
    torch.export.save(program, path)
    return str(path)


class Difference(torch.nn.Module):
    def forward(self, text, visual):
        return text[:, 0] - 2 * visual[:, 0]


def difference(tmp_path):
    return exported(tmp_path / "v2.pt2", Difference(), (torch.zeros(6, 32), torch.zeros(6, 32)), ({0: N}, {0: N}))


@pytest.mark.parametrize("text", ["visual=visual,text=text", "text=text,visual=visual", "a=text,b=visual", None])
def test_a_pt2_file_s_own_names_go_before_their_order(small_data, tmp_path, text):
    given = read_input_map(text, "v2", MODALITIES)
    batch = batch_of(small_data)
    expected = first_of(batch, "text") - 2 * first_of(batch, "visual")
    assert torch.allclose(scored(open_model(difference(tmp_path), "", 1), small_data, given), expected, atol=1e-5)


def test_names_that_are_half_a_pt2_file_s_own_are_refused(tmp_path):
    given = read_input_map("visual=visual,words=text", "v2", MODALITIES)
    with pytest.raises(ValueError, match=r"--inputs names visual as v2.pt2 does, and words as it does not: give"):
        known_map(open_model(difference(tmp_path), "", 1), given, MODALITIES)


class Several(torch.nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, text):
        wrong, right = text.sum(-1), text[:, 0]
        return {"label": wrong, "gain": right} if self.kind is dict else (wrong, right)


@pytest.mark.parametrize(("kind", "name"), [(dict, "gain"), (tuple, "1")])
def test_of_several_pt2_outputs_the_scores_are_named(small_data, tmp_path, kind, name):
    path = exported(tmp_path / "v2.pt2", Several(kind), (torch.zeros(6, 32),), ({0: N},))
    for wrong, said in (("", "nothing says which are the scores"), ("7", "has no output '7'")):
        with pytest.raises(ModelError, match=said):
            open_model(path, wrong, 1)
    model = open_model(path, name, 1)
    assert torch.equal(scored(model, small_data), first_of(batch_of(small_data), "text"))


def test_an_output_of_a_function_means_nothing():
    with pytest.raises(ModelError, match=r"is a function, which has one output: leave output = 'y' out of --inputs"):
        open_model("outside.broken_models:fine", "y", 1)


class ByName(torch.nn.Module):
    def forward(self, text, factor, *, visual, flag=True):
        return text[:, 0] * factor + (visual[:, 0] if flag else 0.0)


class Nested(torch.nn.Module):
    def forward(self, batch):
        return batch["text"][:, 0] * 2.5 + batch["visual"][:, 0]


def test_a_pt2_file_with_numbers_and_arguments_by_name(small_data, tmp_path):
    text, visual = torch.zeros(6, 32), torch.zeros(6, 32)
    named = exported(
        tmp_path / "named.pt2",
        ByName(),
        (text, 2.5),
        {"text": {0: N}, "factor": None, "visual": {0: N}, "flag": None},
        {"visual": visual, "flag": True},
    )
    batch = batch_of(small_data)
    expected = first_of(batch, "text") * 2.5 + first_of(batch, "visual")
    assert torch.allclose(scored(open_model(named, "", 1), small_data), expected, atol=1e-5)
    nested = exported(
        tmp_path / "nested.pt2",
        Nested(),
        ({"text": text, "visual": visual},),
        {"batch": {"text": {0: N}, "visual": {0: N}}},
    )
    given = read_input_map("batch_visual=visual,batch_text=text", "v2", MODALITIES)
    assert torch.allclose(scored(open_model(nested, "", 1), small_data, given), expected, atol=1e-5)


class PlusV1(torch.nn.Module):
    def forward(self, text, v1):
        return text[..., 0] + v1


@pytest.mark.parametrize("form", ["pt2", "onnx"])
@pytest.mark.parametrize("lists", [False, True])
def test_an_input_of_one_number_a_document_may_leave_out_its_width(small_data, tmp_path, form, lists):
    shape = ("Q", "L") if lists else ("N",)
    if form == "pt2":
        sizes = (1, 6) if lists else (6,)
        dynamic = {1: L} if lists else {0: N}
        example = (torch.zeros(*sizes, 32), torch.zeros(*sizes))
        path = exported(tmp_path / "v2.pt2", PlusV1(), example, (dynamic, dynamic))
    else:
        axes = onnx.numpy_helper.from_array(np.array([-1]), "axes")
        nodes = [
            onnx.helper.make_node("ReduceMin", ["text"], ["m"], axes=[-1], keepdims=0),
            onnx.helper.make_node("Add", ["m", "v1"], ["Y"]),
        ]
        value, kind = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
        given = [value("text", kind, [*shape, 32]), value("v1", kind, list(shape))]
        graph = onnx.helper.make_graph(nodes, "g", given, [value("Y", kind, list(shape))], [axes])
        path = str(tmp_path / "v2.onnx")
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
        onnx.save(model, path)
    batch = batch_of(small_data)
    found = scored(open_model(path, "", 1), small_data, InputMap(inputs={}, documents="lists" if lists else "flat"))
    text = batch.features["text"][..., 0] if form == "pt2" else batch.features["text"].amin(-1)
    expected = torch.where(batch.valid, text + batch.v1, 0.0).double()
    assert torch.allclose(found, expected, atol=1e-5)


def classifier(tmp_path, data, *, zipmap):
    from skl2onnx import to_onnx
    from sklearn.linear_model import LogisticRegression

    x = data.gather(data.rows("train")[:50])
    rows = x.features["text"][x.valid].numpy()
    model = LogisticRegression().fit(rows, x.labels[x.valid].numpy() > 0)
    path = tmp_path / "v2.onnx"
    path.write_bytes(to_onnx(model, rows[:1], options={"zipmap": zipmap}).SerializeToString())
    return str(path), model


@pytest.mark.parametrize("zipmap", [False, True])
def test_a_classifier_s_probability_is_a_column_of_its_output(small_data, tmp_path, zipmap):
    path, model = classifier(tmp_path, small_data, zipmap=zipmap)
    given = read_input_map("X=text", path, MODALITIES)
    name = "output_probability" if zipmap else "probabilities"
    column = "1" if not zipmap else str(model.classes_.astype(int)[1])
    with pytest.raises(ModelError, match=rf'output = "{name}:{column}" in the TOML file of --inputs picks one of 0, 1'):
        scored(open_model(path, name, 1), small_data, given)
    found = scored(open_model(path, f"{name}:{column}", 1), small_data, given)
    batch = batch_of(small_data)
    expected = model.predict_proba(batch.features["text"][batch.valid].numpy())[:, 1]
    assert np.allclose(found[batch.valid].numpy(), expected, atol=1e-5)
    with pytest.raises(ModelError, match=r"7 is none: 0 to 1|knows no class 7; it has 0, 1"):
        scored(open_model(path, f"{name}:7", 1), small_data, given)


def test_hints_speak_of_lists_only_where_it_is_about_lists(small_data):
    def fails(inputs):
        raise RuntimeError("ranker_features has no rank")

    def turned(inputs):
        return inputs["text"][:, :1].T

    for run in (fails, turned, broken_models.wrong_shape):
        with pytest.raises(ModelError) as caught:
            scored(opened(run), small_data)
        assert "lists" not in str(caught.value)


def test_documents_that_are_flat_have_no_mask():
    given = InputMap(inputs={"x": ("text",), "valid": ("valid",)}, documents="flat")
    with pytest.raises(ValueError, match=r"its input valid holds valid, .* say \"lists\", or leave documents out"):
        known_map(opened(None), given, MODALITIES)


def test_a_model_s_own_names_say_that_it_takes_lists():
    assert known_map(opened(None, ["visual", "text", "metadata", "valid"]), EMPTY, MODALITIES).in_lists
