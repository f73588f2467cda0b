"""Whatever stands in a phase file, it is read or ends in one clear error: never another exception."""

import pytest

from spaces import read_phase_file

PLACES = {
    **{key: f"{key} = {{}}" for key in ("extends", "title", "trials", "confirm_seeds", "v1_reads", "metric", "cutoff")},
    **{
        key: f"{key} = {{}}" for key in ("base", "known", "ranges", "objectives", "gates", "resume_gates", "thresholds")
    },
    **{
        f"base.{key}": f'[base]\n"{key}" = {{}}'
        for key in (
            *("model.variant", "model.width", "model.standardise", "model.scale", "model.modalities"),
            *("model.context_reads", "model.text_tokens", "model.dropout", "train.epochs", "train.members"),
            *("train.learning_rate", "train.start", "loss.unimodal", "loss.visual_importance"),
        )
    },
    "known.x": "[known]\nx = {}",
    **{f"known.x.{key}": f'[known.x]\n"{key}" = {{}}' for key in ("off", "loss.unimodal", "model.scale", "model")},
    **{
        f"ranges.loss.unimodal.{key}": f'[ranges."loss.unimodal"]\n{key} = {{}}'
        for key in ("off", "kind", "low", "high", "when")
    },
    "ranges.train.learning_rate.log": '[ranges."train.learning_rate"]\nlog = {}',
    "ranges.model.scale.values": '[ranges."model.scale"]\nvalues = {}',
    "ranges.model.scale.values, one": '[ranges."model.scale"]\nvalues = [{}]',
    "ranges.model.modalities.values, one": '[ranges."model.modalities"]\nkind = "choice"\nvalues = [{}]',
    "ranges.model.width.values, one": '[ranges."model.width"]\nkind = "choice"\nvalues = [{}]',
    "ranges.loss.unimodal.when.model.scale": '[ranges."loss.unimodal".when]\n"model.scale" = {}',
    "ranges.loss.unimodal.when.model.scale, one": '[ranges."loss.unimodal".when]\n"model.scale" = [{}]',
    "objectives.ndcg_gain": "[objectives]\nndcg_gain = {}",
    **{
        f"objectives.ndcg_gain.{key}": f"[objectives.ndcg_gain]\n{key} = {{}}"
        for key in ("off", "direction", "bound", "reference")
    },
    "gates.ndcg_gain": "[gates]\nndcg_gain = {}",
    **{
        f"gates.ndcg_gain.{key}": f"[gates.ndcg_gain]\n{key} = {{}}"
        for key in ("off", "at_least", "at_most", "quantity", "steers", "needs")
    },
    "resume_gates.queries": "[resume_gates]\nqueries = {}",
    "resume_gates.queries.at_least": "[resume_gates.queries]\nat_least = {}",
    "thresholds.least_gain": "[thresholds]\nleast_gain = {}",
}
ODD = {
    "array": "[1, 2]",
    "array of texts": '["visual", "text"]',
    "nested array": "[[1], {a = 1}]",
    "empty array": "[]",
    "table": '{a = 1, b = {c = "d"}}',
    "empty table": "{}",
    "bool": "true",
    "inf": "inf",
    "minus inf": "-inf",
    "nan": "nan",
    "huge": "1" + "0" * 400,
    "minus huge": "-1" + "0" * 400,
    "too long": "1" * 5000,
    "beyond exact": str(2**70),
    "negative": "-1",
    "fraction": "0.5",
    "empty": '""',
    "blank": '" "',
    "text": '"{a} + %s"',
    "date": "2026-01-01",
    "time": "12:00:00",
    "moment": "2026-01-01T00:00:00Z",
}


@pytest.mark.parametrize("place", PLACES)
def test_an_odd_value_is_read_or_refused_in_one_line(tmp_path, place):
    told, path = {}, tmp_path / "mine.toml"
    for kind, odd in ODD.items():
        said = PLACES[place].replace("{}", odd)
        path.write_text(said if place == "extends" else f'extends = "phase3"\n{said}\n')
        try:
            read_phase_file(str(path))
        except ValueError as error:
            told[kind] = str(error)
    assert all(text.startswith(f"--phase-file {path}") for text in told.values()), told
    assert not any("\n" in text for text in told.values()), told
    assert {"nested array", "nan", "too long", "date"} <= set(told)


@pytest.mark.parametrize(
    "text", ['"" = 1', '[known.""]\n"loss.unimodal" = 0.1', '[gates.""]\nquantity = "ndcg"\nat_least = 1']
)
def test_a_name_that_is_none_is_refused(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(f'extends = "phase3"\n{text}\n')
    with pytest.raises(ValueError, match=r"is no name| is unknown"):
        read_phase_file(str(path))


def test_brackets_without_end_are_refused(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("extends = " + "[" * 20_000)
    with pytest.raises(ValueError, match="cannot be read"):
        read_phase_file(str(path))
