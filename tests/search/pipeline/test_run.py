"""A whole small run on real Ray: what it leaves behind, and what a second command on its folder does."""

import dataclasses
import io
import json
import math
import re
from pathlib import Path

import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2

from fusion_models.data import fingerprint_of
from fusion_models.modalities import MODALITIES
from search.options import RunOptions
from search.pipeline.baselines import reference_seeds
from search.pipeline.phase import run_phase
from search.reporting import read_run, write_report
from search.run_store.folder import FORMAT, RunFolder, RunFolderError
from search.run_store.journal import open_journal
from spaces import PHASES, phase_from_plain, phase_to_plain

SMALL = "planted?queries=160&candidates=8"
TRIALS = 6
BASELINES = 3 * reference_seeds(PHASES["phase3"])
"""Each modality alone, over a few seeds."""
PHASE = PHASES["phase3"].with_base({"model.layers": 1, "train.epochs": 2})
README = Path(__file__).parents[3] / "results" / "README.md"
AFTER_A_FINALIST = (
    *("confirmed", "finalist", "decision", "evidence", "judged"),
    *("ablation", "agreement", "examples"),
)
"""Files of a run whose finalist was confirmed."""
DEPENDS_ON_TIME = ("latency_p95_ms", "seconds")


def options(results):
    """A run of six short trainings and the baselines', one at a time, without confirmation."""
    return RunOptions(
        phase="phase3",
        data=SMALL,
        trials=TRIALS,
        epochs=2,
        set=("model.layers=1",),
        confirm_seeds=0,
        max_concurrent=1,
        results=str(results),
    )


def snapshot(folder):
    """Path -> bytes and time of every file below `folder`."""
    return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    return options(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def folder(asked, shared_ray):
    return run_phase(asked, Console(file=io.StringIO())).path


@pytest.fixture(scope="module")
def trials(folder):
    return pd.read_parquet(folder / "trials.parquet")


def test_every_promised_file_is_there_and_nothing_of_the_works(folder):
    promised = [re.findall(r"`([^`]+)`", line.split("|")[1]) for line in README.read_text().splitlines() if "|" in line]
    files = {name for names in promised for name in names if name.endswith((".json", ".csv", ".parquet", ".journal"))}
    always = {
        name
        for name in files
        if not name.startswith(
            ("confirmed", "finalist", "decision", "evidence", "ablation", "agreement", "examples", "judged", "tracking")
        )
    }
    assert {"run.json", "study.journal", "trials.parquet", "trials.csv", "pareto.csv", "baselines.csv"} <= always
    assert not [name for name in always if not (folder / name).is_file()]
    assert (folder / "tensorboard").is_dir()
    assert not (folder / "tune").exists()
    assert not list(folder.rglob(".*"))
    assert not list(folder.rglob("*training*"))


def test_every_field_of_run_json_and_every_column_of_trials_is_explained(folder):
    page = README.read_text()
    said = [
        re.findall(r"`([\w.]+)`", page.split(f"\n## {name}\n")[1].split("\n## ")[0])
        for name in ("run.json", "trials.csv")
    ]
    assert set(json.loads((folder / "run.json").read_text())) <= set(said[0])
    first = next(line for line in page.splitlines() if line.startswith("| `trials.parquet`"))
    known = {*said[1], *re.findall(r"`(\w+)`", first)}
    known |= {name.replace("NAME", modality) for name in known for modality in MODALITIES}
    columns = [column for column in pd.read_csv(folder / "trials.csv").columns if not column.startswith("config.")]
    assert [column for column in columns if column not in known] == []


def test_pareto_has_the_promised_columns_in_their_order(folder):
    promised = re.findall(r"`([\w.<>]+)`", README.read_text().split("## pareto.csv")[1].split("\n## ")[0])
    promised = [name for name in promised if name != "config.<key>"]
    columns = list(pd.read_csv(folder / "pareto.csv").columns)
    plain = [c for c in columns if not c.startswith("config.")]
    assert plain == [name for name in promised if name in plain]
    assert set(plain) == set(promised)
    assert [c.removeprefix("config.") for c in columns[len(plain) :]] == list(PHASE.ranges)


def test_the_front_holds_only_finished_search_trials_and_says_where_their_weights_are(folder, trials):
    front = pd.read_csv(folder / "pareto.csv")
    known = trials.set_index("trial_id")
    assert len(front) >= 1
    assert list(front["rank"]) == list(range(1, len(front) + 1))
    assert set(known.loc[front["trial_id"], "state"]) == {"finished"}
    assert set(known.loc[front["trial_id"], "stage"]) == {"search"}
    for checkpoint in front["checkpoint"]:
        assert (folder / checkpoint / "weights.safetensors").is_file()


def test_every_trial_is_in_the_table_with_its_state_numbers_and_recipe(trials):
    assert len(trials) == TRIALS + BASELINES
    assert trials["trial_id"].is_unique
    assert set(trials["state"]) <= {"finished", "stopped"}
    assert set(trials.loc[trials["stage"] == "baselines", "state"]) == {"finished"}
    assert trials["ndcg"].between(0, 1).all()
    assert {f"config.{key}" for key in PHASE.base.flat()} <= set(trials.columns)
    assert {o.name for o in PHASE.objectives} <= set(trials.columns)
    assert not [c for c in trials.columns if "/" in c]


def test_parquet_and_csv_say_the_same(folder, trials):
    text = pd.read_csv(folder / "trials.csv", keep_default_na=False, na_values={"ndcg": [""]})
    assert list(text.columns) == list(trials.columns)
    for column in trials.columns:
        left, right = trials[column], text[column]
        if pd.api.types.is_numeric_dtype(left) and not pd.api.types.is_bool_dtype(left):
            right = pd.to_numeric(right, errors="coerce")
            pd.testing.assert_series_equal(left, right, check_dtype=False, rtol=1e-12)
        else:
            assert [str(v) for v in left] == [str(v) for v in right], column


def test_run_json_says_what_was_run(folder, asked):
    run = json.loads((folder / "run.json").read_text())
    for key in (
        "phase",
        "definition",
        "seed",
        "data",
        "fingerprint",
        "counts",
        "versions",
        "commit",
        "machine",
        "command",
    ):
        assert run[key] is not None, key
    assert run["end"] >= run["start"]
    assert run["definition"]["base"] == PHASE.base.flat()
    assert phase_from_plain(run["definition"]) == PHASE
    assert run["options"]["trials"] == TRIALS
    assert set(run["options"]) == {f.name for f in dataclasses.fields(asked)}
    assert {"ray", "torch", "optuna"} <= set(run["versions"])


def test_the_journal_opens_in_optuna_and_agrees_with_the_table(folder, trials):
    storage = open_journal(folder / "study.journal")
    for name, total, known in (("baselines", BASELINES, 0), ("search", TRIALS, len(PHASE.known_recipes()))):
        study = optuna.load_study(study_name=name, storage=storage)
        told = {TrialState.COMPLETE: "finished", TrialState.PRUNED: "stopped"}
        begun = study.get_trials(states=tuple(told))
        assert [told[t.state] for t in begun] == list(trials.loc[trials["stage"] == name, "state"])
        assert len(begun) == total
        left = [t.state for t in study.trials if t.state not in told]
        assert left == [TrialState.WAITING] * max(0, known - total)  # known points that so few trials do not reach
    finished = study.get_trials(states=(TrialState.COMPLETE,))
    assert finished
    for trial in finished:
        assert trial.values == PHASE.objective_values(trial.user_attrs["outcome"]["numbers"])


def events(path):
    accumulator = EventAccumulator(str(path), size_guidance={"tensors": 0, "scalars": 0})
    accumulator.Reload()
    return accumulator


def hparams_data(accumulator, tag):
    content = accumulator.SummaryMetadata(tag).plugin_data.content
    return plugin_data_pb2.HParamsPluginData.FromString(content)


def test_hparams_of_every_trial_hold_every_searched_key_and_every_objective(folder, trials):
    for row in trials.to_dict("records"):
        found = events(folder / "tensorboard" / row["trial_id"])
        start = hparams_data(found, "_hparams_/session_start_info").session_start_info
        assert set(PHASE.ranges) <= set(start.hparams)
        assert start.hparams["train.learning_rate"].number_value == pytest.approx(row["config.train.learning_rate"])
        assert start.hparams["model.variant"].string_value == row["config.model.variant"]
        end = hparams_data(found, "_hparams_/session_end_info").session_end_info
        assert end.status == {"finished": api_pb2.STATUS_SUCCESS, "stopped": api_pb2.STATUS_UNKNOWN}[row["state"]]
        for name in ("ndcg_gain", "attention_max_share", "v1_correlation"):
            last = found.Scalars(name)[-1]
            assert last.value == pytest.approx(row[name], rel=1e-5)
            assert last.step == row["epochs"]
        if not math.isnan(row["visual_masking_drop"]):
            assert found.Scalars("visual_masking_drop")[-1].value == pytest.approx(row["visual_masking_drop"], rel=1e-5)
        assert "loss/total" in found.Tags()["scalars"]


def test_the_experiment_names_the_searched_keys_and_the_objectives_as_columns(folder):
    found = events(folder / "tensorboard")
    experiment = hparams_data(found, "_hparams_/experiment").experiment
    assert {info.name for info in experiment.hparam_infos} == set(PHASE.ranges)
    assert {o.name for o in PHASE.objectives} <= {info.name.tag for info in experiment.metric_infos}
    volume = [event.value for event in found.Scalars("hypervolume")]
    assert len(volume) == TRIALS
    assert volume == sorted(volume)  # what is dominated only grows


def test_a_finished_folder_is_left_as_it_is(folder, asked, console):
    before = snapshot(folder)
    run_phase(asked, console)
    assert "holds a finished run; nothing was changed" in console.file.getvalue()
    assert "--fresh" in console.file.getvalue()
    run_phase(dataclasses.replace(asked, resume=True), console)
    assert snapshot(folder) == before


def test_a_finished_folder_is_not_shown_as_the_run_of_other_data(folder, asked, console):
    before = snapshot(folder)
    with pytest.raises(RunFolderError, match=r"finished run on --data planted.*, not on clipart"):
        run_phase(dataclasses.replace(asked, data="clipart"), console)
    assert snapshot(folder) == before


def test_the_same_seed_one_training_at_a_time_gives_the_same_front(folder, tmp_path, shared_ray):
    again = run_phase(options(tmp_path), Console(file=io.StringIO())).path
    tables = [pd.read_csv(f / "pareto.csv", dtype=str, keep_default_na=False) for f in (folder, again)]
    texts = [t.drop(columns=[c for c in DEPENDS_ON_TIME if c in t]).to_csv(index=False) for t in tables]
    assert texts[0] == texts[1]


def unfinished(tmp_path, asked):
    """The options and folder of a run that was cut off before its first trial ended."""
    asked = dataclasses.replace(asked, results=str(tmp_path))
    path = tmp_path / "phase3"
    path.mkdir()
    (path / "run.json").write_text(
        json.dumps({"format": FORMAT, "end": None, "options": {}, "start": "2026-01-01T00:00:00+00:00"})
    )
    open_journal(path / "study.journal")
    (path / "left over").touch()
    return asked, path


def test_an_unfinished_folder_without_resume_or_fresh_is_an_error_that_names_both(tmp_path, asked, console):
    asked, path = unfinished(tmp_path, asked)
    before = snapshot(path)
    with pytest.raises(RunFolderError, match=r"unfinished run: add --resume .* or --fresh"):
        run_phase(asked, console)
    assert snapshot(path) == before


def test_fresh_starts_over(tmp_path, asked, console, shared_ray):
    asked, path = unfinished(tmp_path, asked)
    asked = dataclasses.replace(asked, fresh=True, trials=1, epochs=1, max_concurrent=None)
    run_phase(asked, console)
    assert not (path / "left over").exists()
    assert json.loads((path / "run.json").read_text())["end"] is not None


def test_resume_with_nothing_there_or_with_other_options_says_so(tmp_path, asked, console):
    asked = dataclasses.replace(asked, resume=True)
    with pytest.raises(RunFolderError, match="nothing to resume"):
        run_phase(dataclasses.replace(asked, results=str(tmp_path / "empty")), console)
    path = tmp_path / "phase3"
    path.mkdir()
    started = dataclasses.asdict(asked) | {"seed": 7, "set": list(asked.set)}
    definition = phase_to_plain(asked.to_phase())
    described = {"format": FORMAT, "end": None, "options": started, "fingerprint": "other", "definition": definition}
    (path / "run.json").write_text(json.dumps(described))
    open_journal(path / "study.journal")
    with pytest.raises(RunFolderError, match="seed was 7 and is now 0"):
        run_phase(dataclasses.replace(asked, results=str(tmp_path)), console)
    with pytest.raises(RunFolderError, match="started on other data"):
        run_phase(dataclasses.replace(asked, results=str(tmp_path), seed=7), console)
    described["fingerprint"] = fingerprint_of(asked.data)
    (path / "run.json").write_text(
        json.dumps(described | {"definition": definition | {"base": definition["base"] | {"model.width": 8}}})
    )
    with pytest.raises(RunFolderError, match="another base recipe"):
        run_phase(dataclasses.replace(asked, results=str(tmp_path), seed=7), console)
    gates = [definition["gates"][0] | {"at_least": 0.1}, *definition["gates"][1:]]
    (path / "run.json").write_text(json.dumps(described | {"definition": definition | {"gates": gates}}))
    with pytest.raises(RunFolderError, match=r"another phase \(gates differ"):
        run_phase(dataclasses.replace(asked, results=str(tmp_path), seed=7), console)


def test_a_folder_of_another_format_is_refused_in_a_line_that_says_whose(tmp_path, asked, console):
    asked, path = unfinished(tmp_path, asked)
    (path / "run.json").write_text(json.dumps({"phase": "phase3", "commit": "abc123", "end": "2026-01-01", "base": {}}))
    said = rf"written in format 1 by fusion-search of commit abc123, and this version reads format {FORMAT}:"
    for act in (lambda: run_phase(asked, console), lambda: read_run(path), lambda: write_report(RunFolder(path))):
        with pytest.raises(RunFolderError, match=said) as error:
            act()
        assert "\n" not in str(error.value)


def test_a_run_is_read_as_what_it_says_it_was(tmp_path, folder):
    """Its own gates and ranges, whatever the phase of that name is by now."""
    described = json.loads((folder / "run.json").read_text())
    changed = described["definition"]
    changed["gates"][0]["at_least"] = 0.33
    del changed["ranges"]["train.weight_decay"]
    (tmp_path / "run.json").write_text(json.dumps(described))
    phase = read_run(tmp_path).phase
    assert phase.gates[0].at_least == 0.33
    assert "train.weight_decay" not in phase.ranges
    del described["definition"]
    (tmp_path / "run.json").write_text(json.dumps(described))
    with pytest.raises(RunFolderError, match="defines no phase"):
        read_run(tmp_path).phase  # noqa: B018


def test_a_finished_folder_is_not_shown_as_the_run_of_another_phase_file(folder, asked, console, tmp_path):
    """Thresholds decide: the same search under others is another question."""
    path = tmp_path / "mine.toml"
    path.write_text('extends = "phase3"\n[gates.ndcg_gain]\nat_least = 0.5\n')
    with pytest.raises(RunFolderError, match=r"started with another phase \(gates differ: another --phase-file"):
        run_phase(dataclasses.replace(asked, phase_file=str(path)), console)
    path.write_text('extends = "phase3"\ntrials = 99\n')  # how much is searched is no other question
    assert run_phase(dataclasses.replace(asked, phase_file=str(path)), console).path == folder
