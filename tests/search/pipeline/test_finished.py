"""A finished run or roadmap: what the same command sends again, and which other questions it does not answer."""

import json

import pytest

from search.options import RunOptions
from search.pipeline.continuation.resuming import plain_options
from search.pipeline.phase import run_phase
from search.pipeline.roadmap import run_roadmap
from search.run_store.folder import FORMAT
from search.run_store.mirror import local_results
from spaces import ROADMAP_STEPS, phase_to_plain

RUNS = {"phase1": run_phase, "roadmap": run_roadmap}


def described(options, **changes):
    """run.json of what these options would have run to its end."""
    said = {"format": FORMAT, "phase": options.phase, "options": plain_options(options), "start": "2026-01-01"}
    if options.phase == "roadmap":
        said["definitions"] = {name: phase_to_plain(options.to_phase(name)) for name in ROADMAP_STEPS}
    else:
        said["definition"] = phase_to_plain(options.to_phase())
    return said | {"end": "2026-01-02"} | changes


@pytest.mark.parametrize("phase", RUNS)
def test_the_same_command_sends_what_the_last_mirroring_did_not(tmp_path, console, monkeypatch, phase):
    monkeypatch.setenv("FUSION_SEARCH_CACHE", str(tmp_path / "cache"))
    store = tmp_path / "store"
    options = RunOptions(phase=phase, results=f"local://{store}")
    here = local_results(options.results) / phase
    for folder, end in ((here, "2026-01-02"), (store / phase, None)):
        (folder / "phase1").mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps(described(options, end=end)))
    (here / "decision.json").write_text('{"verdict": "GO"}')
    (here / "phase1" / "study.journal").write_text("t0000\n")
    RUNS[phase](options, console)
    assert "nothing was changed" in console.file.getvalue()
    assert (store / phase / "phase1" / "study.journal").read_text() == "t0000\n"
    assert json.loads((store / phase / "run.json").read_text())["end"] == "2026-01-02"
    assert (store / phase / "decision.json").exists()
