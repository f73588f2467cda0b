"""A finished run's study gets more trials, its verdict a number; or a run of its own starts from another's front."""

import json

import optuna
import pandas as pd
import pytest
from conftest import SMALL  # of this folder
from optuna.trial import TrialState

from search.options import RunOptions
from search.pipeline.continuation.kept import end_verdict
from search.pipeline.phase import run_phase
from search.run_store.folder import RunFolder, RunFolderError
from search.run_store.journal import open_journal
from search.study.stages import REPEATS


def trials(folder, stage="search"):
    table = pd.read_csv(folder / "trials.csv")
    return table[table["stage"] == stage].set_index("trial_id")


def asked(results, **options):
    return RunOptions(phase="phase1", results=str(results), extend=True, **options)


def interrupted(*_):
    raise KeyboardInterrupt


def test_more_trials_are_added_and_decided_anew_also_after_an_interruption(finished, console, monkeypatch):
    folder = finished / "phase1"
    names = ("decision.json", "finalist.json", "pareto.csv", "report.html")
    first = {name: (folder / name).read_bytes() for name in names}
    before, described = {s: trials(folder, s) for s in ("search", "confirm", "deciding")}, RunFolder(folder).read()
    weights = {p.parent.name: p.read_bytes() for p in folder.glob("checkpoints/*/weights.safetensors")}

    # whatever the finalist is: one of before is something new here
    monkeypatch.setattr("search.pipeline.confirmation.verdict.require_something_new", lambda *given, **more: None)
    more = asked(finished, trials=5, confirm_seeds=2, ablation=False)
    with monkeypatch.context() as patch:
        patch.setattr("search.pipeline.continuation.extend.confirm_and_decide", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_phase(more, console)
    assert (folder / "decision.json").read_bytes() == first["decision.json"]
    assert RunFolder(folder).read()["further"]["by"] == "--extend"
    assert len(trials(folder)) == 5
    run_phase(more, console)
    assert {name: (folder / "verdicts" / "1" / name).read_bytes() for name in names} == first
    assert list((folder / "verdicts" / "1" / "artefact").glob("weights-*.safetensors"))
    assert len(trials(folder)) == 5
    for stage, table in before.items():  # what was trained stands, byte for byte in its numbers
        again = trials(folder, stage)
        pd.testing.assert_frame_equal(again.loc[table.index, table.columns], table)
    assert {t: (folder / "checkpoints" / t / "weights.safetensors").read_bytes() for t in weights} == weights
    second, was = json.loads((folder / "decision.json").read_text()), json.loads(first["decision.json"])
    assert second["look"]["number"] == was["look"]["number"] + 1
    finalist = json.loads((folder / "finalist.json").read_text())
    assert finalist["verdict"] == 2
    new = set(trials(folder, "deciding").index) - set(before["deciding"].index)
    assert (finalist["trial_id"] == was["finalist"]) == (not any("-v2-" in t for t in new))
    (further,) = json.loads((folder / "run.json").read_text())["verdicts"]
    assert (further["number"], further["by"], further["trials"]) == (2, "--extend", 5)
    assert "further" not in RunFolder(folder).read()
    assert RunFolder(folder).read()["definition"] == described["definition"]
    with pytest.raises(RunFolderError, match="has 5 trials already"):
        run_phase(asked(finished, trials=5), console)


def test_a_run_that_starts_from_another_s_front_asks_for_its_trials_first(finished, tmp_path, console):
    earlier = finished / "phase1"
    sampled = pd.read_csv(earlier / "trials.csv").query("name == 'sampled'")["trial_id"].iloc[0]
    front = pd.read_csv(earlier / "pareto.csv")
    front.head(1).assign(trial_id=sampled).to_csv(earlier / "pareto.csv", index=False)
    options = SMALL | {"trials": 6, "sampler": "random", "seed": 7, "confirm_seeds": 0}
    run_phase(RunOptions(**options, results=str(tmp_path / "new"), warm_from=str(earlier)), console)
    there, here = trials(earlier), trials(tmp_path / "new" / "phase1")
    (warm,) = here.index[here["name"] == f"{sampled} of phase1"]
    keys = [c for c in here if c.startswith("config.")]
    pd.testing.assert_series_equal(here.loc[warm, keys], there.loc[sampled, keys], check_names=False)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"extend": True}, "--extend needs --trials"),
        ({"extend": True, "trials": 9, "settle": True}, "give one of them"),
        ({"extend": True, "trials": 9, "resume": True}, "leave out --resume"),
        ({"extend": True, "trials": 9, "confirm_seeds": 0}, "--confirm-seeds 0 leaves out"),
        ({"phase": "phase4", "warm_from": "results/phase3"}, "phase4 searches nothing"),
    ],
)
def test_what_cannot_go_together_says_so(options, said):
    with pytest.raises(ValueError, match=said):
        RunOptions(**({"phase": "phase1"} | options))


def test_what_cannot_be_extended_says_why(finished, tmp_path, console):
    with pytest.raises(RunFolderError, match="holds no finished run to extend"):
        run_phase(asked(tmp_path / "nothing", trials=9), console)
    with pytest.raises(RunFolderError, match=r"seed was 0 and is now 3"):
        run_phase(asked(finished, trials=9, seed=3), console)
    with pytest.raises(ValueError, match=r"planted holds other data than when .* was run"):
        run_phase(asked(finished, trials=9, data="planted"), console)
    folder = RunFolder(finished / "phase1")
    study = optuna.load_study(study_name="search", storage=open_journal(folder.journal))
    refused = study.trials[0].user_attrs | {REPEATS: "t0000"}
    study.add_trial(optuna.create_trial(state=TrialState.FAIL, user_attrs=refused))
    with pytest.raises(RunFolderError, match="has 3 trials already"):  # a proposal that was not run is none
        run_phase(asked(finished, trials=3), console)
    folder.write((folder.read() or {}) | {"roadmap": {"folder": "roadmap"}})
    with pytest.raises(RunFolderError, match=r"is a phase of a roadmap.*--warm-from"):
        run_phase(asked(finished, trials=9), console)


def test_a_front_that_is_not_there_says_so(tmp_path, console):
    options = RunOptions(phase="phase1", data=SMALL["data"], results=str(tmp_path), warm_from=str(tmp_path / "none"))
    with pytest.raises(RunFolderError, match="no run lies there"):
        run_phase(options, console)
    assert not (tmp_path / "phase1").exists()


def test_verdicts_are_numbered_in_run_json(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write(
        {"phase": "phase1", "end": "then", "further": {"number": 2, "by": "--extend", "start": "a", "before": "then"}}
    )
    end_verdict(folder, trials=48)
    said = folder.read()
    assert (said["verdicts"][0]["trials"], said["verdicts"][0]["before"]) == (48, "then")
    assert "further" not in said
