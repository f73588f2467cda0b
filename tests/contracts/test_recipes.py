"""CONTRIBUTING's recipes are true: each is followed in a copy of the house, in the files that it names alone."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).parents[2]
HOUSE = ("fusion_models", "spaces", "search")
PHASES = "spaces/phases.py"
HPARAMS = "search/monitoring/hparams.py"
PAGES = ("docs/roadmap-line-by-line.md", "results/README.md")
VARIANT = '''
"""Mean of all tokens."""

from __future__ import annotations

from torch import Tensor

from fusion_models.models.fusion import Fused, Fusion


class MeanOfTokens(Fusion):
    """The mean of the tokens plus the query: no weights of its own."""

    def forward(self, tokens: Tensor, query: Tensor) -> Fused:
        """See `Fusion.forward`."""
        return Fused(tokens.mean(dim=1) + query)
'''

EDITS = {
    "A loss term": {
        "fusion_models/config/loss.py": [
            ("    decorrelation: float = 0.0\n", "    calm: float = 0.0\n    decorrelation: float = 0.0\n"),
            ('    "decorrelation",\n)', '    "decorrelation",\n    "calm",\n)'),
        ],
        "fusion_models/losses/total.py": [
            (
                "TERMS: dict[str, Callable[[Step], Tensor]] = {",
                "def _calm(step: Step) -> Tensor:\n"
                "    return importance.mean_over_documents(step.out.scores**2, step.batch.valid, step.shard)\n\n\n"
                "TERMS: dict[str, Callable[[Step], Tensor]] = {",
            ),
            ('    "decorrelation": _decorrelation,\n', '    "decorrelation": _decorrelation,\n    "calm": _calm,\n'),
        ],
        HPARAMS: [('        "ranking": ("loss/ranking",),\n', '        "ranking": ("loss/ranking", "loss/calm"),\n')],
        PHASES: [
            (
                '    "loss.unimodal": Weight',
                '    "loss.calm": Weight(low=0.01, high=1.0),\n    "loss.unimodal": Weight',
            ),
            ('        "unimodal heads": {', '        "calm": {"loss.calm": 0.0},\n        "unimodal heads": {'),
        ],
    },
    "A fusion variant": {
        "fusion_models/models/variants/mean_of_tokens.py": VARIANT.lstrip(),
        "fusion_models/models/variants/__init__.py": [
            (
                "\nVARIANTS: dict",
                "from fusion_models.models.variants.mean_of_tokens import MeanOfTokens\n\nVARIANTS: dict",
            ),
            ('    "late_sum": LateSum,\n', '    "late_sum": LateSum,\n    "mean_of_tokens": MeanOfTokens,\n'),
        ],
        PHASES: [('                "late_sum",\n', '                "late_sum",\n                "mean_of_tokens",\n')],
    },
    "A quantity": {
        "fusion_models/quantities/ranking.py": [
            (
                "    return [ndcg, v1, gain, *drops]",
                "    helped = Quantity(\n"
                '        name="queries_helped",\n'
                '        unit="fraction",\n'
                '        direction="higher",\n'
                "        terms=lambda o: _mean(o, np.where(np.isnan(o.ndcg), np.nan, o.ndcg > o.lists.v1_ndcg)),\n"
                "        epochs=True,\n"
                "    )\n"
                "    return [ndcg, v1, gain, helped, *drops]",
            )
        ],
        "results/README.md": [
            (
                "| `parameters`, `queries`, `best_epoch` |",
                "| `queries_helped` | share of queries whose nDCG is above V1's |\n"
                "| `parameters`, `queries`, `best_epoch` |",
            )
        ],
    },
    "A gate": {
        PHASES: [
            (
                '        Gate(name="ndcg_gain", quantity="ndcg_gain", at_least=0.010),\n',
                '        Gate(name="ndcg_gain", quantity="ndcg_gain", at_least=0.010),\n'
                '        Gate(name="top1_stability", quantity="top1_stability", at_most=0.9),\n',
            )
        ],
        "docs/roadmap-line-by-line.md": [
            (
                "| gain ≥ +0.010 |",
                "| the first document moves | `top1_stability` ≤ 0.90 | stricter |\n| gain ≥ +0.010 |",
            )
        ],
    },
    "An objective": {
        PHASES: [
            (
                '    Objective(name="v1_correlation", direction="minimize", bound=0.70, reference=1.0),\n',
                '    Objective(name="v1_correlation", direction="minimize", bound=0.70, reference=1.0),\n'
                '    Objective(name="v1_spearman_mean", direction="minimize", reference=1.0),\n',
            )
        ]
    },
    "A modality": {
        "dataset.toml": 'modalities = ["visual", "text", "metadata", "audio"]\n',
    },
}
"""Recipe -> file -> what is replaced by what there, or a whole new file."""

CHECKS = {
    "A loss term": """
        import random_batches as random
        import torch
        from fusion_models.config import LOSS_TERMS, Recipe
        from fusion_models.losses import Step, total_loss
        from fusion_models.models import build_ranker
        from fusion_models.training.stack.structure import FREE, SWITCHES
        from search.monitoring.hparams import PART_GROUPS
        from search.pipeline.ablation import active
        from spaces import PHASES

        recipe = Recipe().updated({"loss.calm": 0.5, "model.layers": 1})
        batch, model = random.batch(), build_ranker(recipe, random.schema(), random.statistics())
        generator = torch.Generator()
        step = Step(forward=model, batch=batch, config=recipe.loss, out=model(batch), generator=generator)
        total, parts = total_loss(step)
        assert list(parts) == ["ranking", "calm", "total"]
        torch.testing.assert_close(total, parts["ranking"] + 0.5 * parts["calm"])
        assert "loss.calm" in PHASES["phase1"].ranges and "loss.calm" in SWITCHES and "loss.calm" in FREE
        assert ("calm",) in [variation.removed for variation in active(PHASES["phase1"], recipe)]
        drawn = {tag for charts in PART_GROUPS.values() for tags in charts.values() for tag in tags}
        assert {f"loss/{term}" for term in LOSS_TERMS} <= drawn
        """,
    "A fusion variant": """
        import random_batches as random
        from fusion_models.config import Recipe
        from fusion_models.models import VARIANTS, build_ranker
        from spaces import PHASES

        assert "mean_of_tokens" in VARIANTS and "mean_of_tokens" in PHASES["phase3"].ranges["model.variant"].values
        recipe = Recipe().updated({"model.variant": "mean_of_tokens"})
        out = build_ranker(recipe, random.schema(), random.statistics())(random.batch())
        assert out.scores.shape == (4, 6)
        """,
    "A quantity": """
        import numpy as np
        from outputs import random_lists, random_outputs
        from fusion_models.quantities import numbers, quantity
        from search.analysis.measure import quantity_interval
        from spaces import Gate, Objective, PHASES
        import dataclasses

        outputs = random_outputs(random_lists())
        found = quantity_interval(quantity("queries_helped"), outputs, clusters=None, level=0.95)
        better = (outputs.ndcg > outputs.lists.v1_ndcg)[np.isfinite(outputs.ndcg)].mean()
        assert found.low < found.mean < found.high and abs(found.mean - better) < 1e-12
        assert "queries_helped" in numbers(outputs, epochs=True)
        axis = Objective(name="queries_helped", direction="maximize", reference=0.0)
        gate = Gate(name="helped", quantity="queries_helped", at_least=0.5)
        asked = dataclasses.replace(PHASES["phase1"], objectives=(axis,), gates=(gate,))
        assert asked.constraints({"queries_helped": 0.6}) == {"helped": 0.5 - 0.6}
        page = open("results/README.md").read().split("## trials.csv")[1].split("## ")[0]
        assert "`queries_helped`" in page
        """,
    "A gate": """
        from fusion_models.metrics import Interval
        from search.analysis.gates import read_gates
        from search.analysis.judged import Evidence
        from spaces import PHASES

        for value, status in (0.5, "pass"), (0.99, "fail"):
            evidence = Evidence(quantities={"top1_stability": Interval(value, value, value)}, refit_gain={})
            (found,) = [g for g in read_gates(PHASES["phase1"], evidence) if g.key == "top1_stability"]
            assert found.status == status
        assert "top1_stability" in PHASES["phase1"].constraints({})
        page = open("docs/roadmap-line-by-line.md").read().split("## Phase 1")[1].split("## ")[0]
        assert "`top1_stability` ≤ 0.90" in page
        """,
    "An objective": """
        import numpy as np
        import optuna
        from outputs import random_lists, random_outputs
        from search.analysis.front import pareto_front
        from search.analysis.importances import importance_table
        from search.analysis.replicates import objective_replicates
        from search.analysis.tables import pareto_table
        from search.run_store.job import Outcome
        from search.study.search_stage import SearchStage
        from fusion_models.quantities import numbers
        from spaces import PHASES, for_dataset, phase_from_plain, phase_to_plain

        phase, name = PHASES["phase3"], "v1_spearman_mean"
        for modalities, suspect in (("a", "b"), "b"), (("visual", "text", "metadata", "clicks"), "text"):
            other = for_dataset(phase, modalities, suspect).objectives
            assert {name, f"{suspect}_masking_drop"} <= {o.name for o in other}
        assert phase_from_plain(phase_to_plain(phase)).objectives[-1].name == name
        assert name not in [o.name for o in phase.epoch_objectives] and len(phase.epoch_objectives) == 4
        stage = SearchStage(optuna.storages.InMemoryStorage(), phase, sampler="tpe", trials=7, seed=0)
        for seed in range(7):
            outputs = random_outputs(random_lists(), seed=seed)
            told = numbers(outputs) | {"parameters": 5.0}
            stage.tell(stage.ask(), Outcome(state="finished", reason="", epochs=3, numbers=told, seconds=1.0))
        assert stage.ask() is None
        table = pareto_table(phase, stage.records())
        assert name in table and len(table) == len(pareto_front(phase, stage.records())) > 0
        drawn = np.ones((3, 60))
        assert objective_replicates(phase, outputs, drawn)[name].shape == (3,)
        found = importance_table(stage.study, [o.name for o in phase.objectives], generator=np.random.default_rng(0))
        assert name in set(found["objective"])
        """,
    "A modality": """
        import shutil
        import tempfile
        import numpy as np
        import pandas as pd
        from fusion_models.data import open_dataset
        from fusion_models.quantities import known_names
        from fusion_models.training import start, train
        from spaces import Gate, PHASES, for_dataset
        import dataclasses

        random, queries, listed, named = np.random.default_rng(0), 120, 8, ("visual", "text", "metadata")
        heard = random.normal(size=queries * listed)
        vectors = {m: list(random.normal(size=(len(heard), 4)).astype("f4")) for m in named}
        items = pd.DataFrame({"item_id": [f"i{i}" for i in range(len(heard))]} | vectors)
        items["audio"] = list(np.stack([heard, -heard], axis=1).astype("f4"))
        asked = np.repeat([f"q{q}" for q in range(queries)], listed)
        judged = pd.DataFrame({"query_id": asked, "item_id": items["item_id"], "label": np.digitize(heard, [0.3, 1.0])})
        judged["v1_score"] = random.normal(size=len(heard))
        tables = {"queries": pd.DataFrame({"query_id": pd.unique(asked)}), "items": items, "judgements": judged}
        folder = tempfile.mkdtemp()
        for name, table in tables.items():
            table.to_parquet(f"{folder}/{name}.parquet")
        assert open_dataset(folder).schema.modalities == named  # what is not declared is not read
        shutil.copy("dataset.toml", folder)
        data = open_dataset(folder)
        phase = for_dataset(PHASES["phase1"], data.schema.modalities, "audio")
        small = {"model.layers": 1, "train.epochs": 4, "train.learning_rate": 1e-2}
        recipe = phase.known_recipes()["balanced"].updated(small)
        state = start(recipe, data, seed=0)
        assert len(list(train(state, data))) == 4
        found = state.best_numbers
        assert found["ndcg_gain"] > 0.2 and found["audio_masking_drop"] > 0.05 and found["attention_audio"] > 0
        assert {"audio_refit_gain", "audio_shapley_share"} <= set(known_names(data.schema.modalities))
        assert recipe.restricted(named).model.modalities == named
        gate = Gate(name="audio", quantity="audio_masking_drop", at_least=0.05, steers=False)
        dataclasses.replace(phase, gates=(gate,))
        items.drop(columns="audio").to_parquet(f"{folder}/items.parquet")
        try:
            open_dataset(folder)
        except ValueError as error:
            assert "audio" in str(error)
        else:
            raise AssertionError("a table without the column was read")
        """,
}


def recipes():
    """Heading -> (number of files it says, files it names), from CONTRIBUTING.md."""
    found = {}
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for said in re.split(r"^### ", text.split("## Recipes")[1], flags=re.MULTILINE)[1:]:
        name, count = re.match(r"(.+): (\d+) files?\n", said).groups()
        found[name] = int(count), re.findall(r"^- `([^`]+)`", said, flags=re.MULTILINE)
    return found


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A copy of the three packages and the pages that recipes name; each recipe starts from it afresh."""
    folder = tmp_path_factory.mktemp("house")
    for package in HOUSE:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    for page in PAGES:
        (folder / page).parent.mkdir()
        shutil.copy(ROOT / page, folder / page)
    return folder


def edit(folder, edits):
    """Apply one recipe's edits; what is to be replaced must be there."""
    for name, changes in edits.items():
        path = folder / name
        if isinstance(changes, str):
            assert not path.exists(), name
            path.write_text(changes)
            continue
        text = path.read_text()
        for old, new in changes:
            assert old in text, f"{name} no longer holds {old!r}: follow the recipe by hand, then mend this test"
            text = text.replace(old, new)
        path.write_text(text)


def test_every_recipe_is_followed():
    assert set(recipes()) == set(EDITS) == set(CHECKS)


@pytest.mark.parametrize("name", EDITS)
def test_a_recipe_names_the_files_that_it_takes_and_says_how_many(name):
    count, files = recipes()[name]
    files = [file.replace("NAME", "mean_of_tokens") for file in files]
    assert len(files) == count
    assert sorted(files) == sorted(EDITS[name])


@pytest.mark.parametrize("name", EDITS)
def test_a_recipe_is_enough(name, house):
    before = {path: path.read_text() for file in EDITS[name] if (path := house / file).exists()}
    edit(house, EDITS[name])
    try:
        done = subprocess.run(
            [sys.executable, "-c", dedent(CHECKS[name])], capture_output=True, text=True, check=False, cwd=house,
            env=os.environ | {"PYTHONPATH": os.pathsep.join((str(house), str(ROOT / "tests" / "helpers")))},
        )  # fmt: skip
    finally:
        for file in EDITS[name]:
            (house / file).unlink()
        for path, text in before.items():
            path.write_text(text)
    assert done.returncode == 0, done.stderr
