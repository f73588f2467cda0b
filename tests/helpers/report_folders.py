"""Run folders for tests of the report: made-up numbers, written by the code that writes a run's tables."""

import dataclasses
import html
import json
import re
from math import nan

import numpy as np
import pandas as pd
from outputs import random_lists, random_outputs
from torch.utils.tensorboard import SummaryWriter

from fusion_models.metrics import Interval
from search.analysis.decision import Evidence, decide
from search.analysis.effects import Measured, effect_table
from search.analysis.judged import ArchiveEvidence, Cold, Lead, Probe
from search.analysis.measure import ConfirmedRow, confirmed_table
from search.analysis.tables import write_tables
from search.run_store.csv_tables import write_csv
from search.run_store.folder import RunFolder, json_text
from search.run_store.job import TrialRecord
from search.run_store.looks import Look
from spaces import PHASES, phase_to_plain

PHASE = PHASES["phase3"]
HOSTILE = "<script>window.hacked = 1</script><img src=x onerror=alert(1)>"
FORMULA = '=HYPERLINK("http://evil")'
MODALITIES = ("visual", "text", "metadata")
TUNED = "tuned V1 (LambdaMART on V1's own features)"
BOUGHT_NOTHING = "The search bought nothing over the V2 you have: -0.025 [-0.040, -0.010]"


def record(index, *, stage="search", state="finished", name="sampled", reason=""):
    generator = np.random.default_rng(index)
    numbers = {
        "ndcg": 0.55 + 0.01 * index,
        "ndcg_gain": 0.01 * index - 0.01,
        "ndcg_gain_ci_low": 0.01 * index - 0.03,
        "ndcg_gain_ci_high": 0.01 * index + 0.01,
        "visual_masking_drop": float(generator.uniform(0, 0.1)),
        "text_masking_drop": 0.1,
        "metadata_masking_drop": 0.05,
        "attention_visual": 0.3,
        "attention_text": 0.4,
        "attention_metadata": 0.3,
        "attention_max_share": float(generator.uniform(0.35, 0.9)),
        "attention_min_share": 0.2,
        "attention_balance": 0.9,
        "v1_correlation": float(generator.uniform(0.7, 0.99)),
        "v1_kendall": 0.7,
        "top1_stability": 0.6,
        "latency_p95_ms": 4.0,
        "parameters": 20_000.0,
    }
    recipe = PHASE.base.flat() | ({"loss.unimodal": 0.3, "model.text_tokens": 1} if index else {})
    return TrialRecord(
        trial_id=f"t{index:04d}" if stage == "search" else f"{stage}-{index}",
        stage=stage,
        name=name,
        state=state,
        state_reason=reason,
        epochs=4,
        seed=0,
        recipe=recipe,
        numbers=numbers if state in ("finished", "stopped") else {},
        seconds=2.5,
    )


def searched(path, *, end="2026-11-24T10:00:00+00:00"):
    """A run with a search alone: finished, stopped and failed trials with hostile names."""
    path.mkdir(parents=True)
    folder = RunFolder(path)
    folder.write(
        {
            "phase": "phase3",
            "options": {},
            "definition": phase_to_plain(PHASE),
            "seed": 0,
            "data": HOSTILE,
            "fingerprint": "abc",
        }
        | {"counts": {"queries": 9}, "resumed": 0, "start": "2026-11-24T09:00:00+00:00", "end": end}
        | {"commit": None, "versions": {"ray": "2.60"}, "command": ["run", HOSTILE]}
    )
    records = [record(0, name="base"), *(record(i) for i in range(1, 5))]
    records += [record(5, state="stopped", reason="fell behind"), record(6, name=FORMULA)]
    records += [record(7, state="failed", name=HOSTILE, reason=f"ValueError: {HOSTILE}")]
    worst = {"ndcg_gain": -0.09, "visual_masking_drop": -0.01, "attention_max_share": 0.95, "v1_correlation": 0.995}
    records.append(dataclasses.replace(record(8), numbers=record(8).numbers | worst))
    write_tables(folder, PHASE, records, {r.trial_id: 0.5 for r in records})
    for trial in records[:2]:
        writer = SummaryWriter(str(folder.tensorboard / trial.trial_id))
        for epoch in range(1, 5):
            writer.add_scalar("ndcg_gain", 0.01 * epoch, epoch)
            writer.add_scalar("loss/total", 1.0 / epoch, epoch)
        writer.close()
    return folder


def decided(path):
    """The same run, confirmed, decided and ablated, on a dataset with pictures whose texts are hostile."""
    folder = searched(path)
    quantities = {
        "ndcg": Interval(0.60, 0.58, 0.62),
        "ndcg_gain": Interval(0.04, 0.01, 0.07),
        "visual_masking_drop": Interval(0.06, 0.055, 0.065),
        "attention_max_share": Interval(0.36, 0.34, 0.38),
        "attention_min_share": Interval(0.31, 0.29, 0.33),
        "v1_correlation": Interval(0.80, 0.78, 0.82),
    }
    evidence = judged(quantities)
    decision = decide(PHASE, "t0004", evidence, {"v1_stable": "not measured"})
    look = Look(number=2).as_json()
    (path / "decision.json").write_text(json_text(decision.as_json() | {"look": look}))
    plain = {"mean": 0.04, "ci_low": 0.01, "ci_high": 0.07}
    found = {
        "split": "test",
        "members": evidence.members,
        "trainings": {"finalist-visual+text+metadata": 5, "base-visual+text+metadata": 5},
        "quantities": {name: spelt(interval) for name, interval in quantities.items()},
        "refit_gain": {name: spelt(interval) for name, interval in evidence.refit_gain.items()},
        "refit_shapley": {m: {"mean": 1 / 3, "ci_low": 0.2, "ci_high": 0.5} for m in MODALITIES},
        "masked_shapley": {"visual": 0.1, "text": 0.14, "metadata": 0.1},
        "leads": {role: {"rival": lead.rival} | spelt(lead.interval) for role, lead in evidence.rivals.items() if lead},
        "strongest_blind": {"rival": evidence.strongest_blind.rival} | spelt(evidence.strongest_blind.interval),
        "probes": [{"name": p.name, "counts": p.counts} | spelt(p.gain) for p in evidence.archive.probes],
        "attention_by_layer": [[0.3, 0.4, 0.3], [0.2, 0.5, 0.3]],
        "fusion_gain": {
            "LambdaMART": {"rival": "LambdaMART"} | plain,
            "best pair": {"rival": "visual+text"} | plain,
            TUNED: {"rival": TUNED} | plain,
            "base recipe": {"rival": "base recipe"} | plain,
        },
        "subdomains": [{"subdomain": HOSTILE, "queries": 60, "p": 0.01, "p_holm": 0.01} | plain],
    }
    (path / "evidence.json").write_text(json_text(found))
    chosen = {"trial_id": "t0004", "recipe": record(4).recipe, "chosen_on": "validation", "of": ["t0004", "t0003"]}
    (path / "finalist.json").write_text(json.dumps(chosen))
    names = {"t0004": "t0004", "t0003": "t0003", "t0000": "base"}
    rows = [
        ConfirmedRow(
            trial_id=trial,
            name=name,
            finalist=trial == "t0004",
            split=split,
            seeds=3,
            quantities=quantities,
            trainings="deciding" if split == "test" and trial != "t0003" else "short list",
            items="without cold" if split == "test" and trial != "t0003" else "all",
        )
        for split in ("test", "validation")
        for trial, name in names.items()
    ]
    write_csv(confirmed_table(PHASE, rows), folder, "confirmed.csv")
    write_csv(baselines(), folder, "baselines.csv")
    write_csv(ablation(), folder, "ablation.csv")
    ranks = [str(i) for i in range(1, 11)]
    agreement = [{"v1_rank": a, "v2_rank": b, "documents": 3, "share": 0.1} for a in ranks for b in ranks]
    write_csv(pd.DataFrame(agreement), folder, "agreement.csv")
    importances = {
        "objective": ["ndcg_gain"],
        "key": ["model.variant"],
        "importance": [0.6],
        "chance_p95": [0.3],
        "trials": [9],
    }
    write_csv(pd.DataFrame(importances), folder, "importances.csv")
    example = {"kind": "helped", "query_id": "q1", "query": HOSTILE, "subdomain": "all", "gain": 0.3, "order": "V1"}
    example |= {"place": 1, "label": 2.0, "item_id": "i1", "title": HOSTILE, "picture": b"\xff\xd8jpeg"}
    pd.DataFrame([example, example | {"order": "V2"}]).to_parquet(path / "examples.parquet", index=False)
    return folder


def judged(quantities):
    """Evidence with an open image, a search that bought nothing, a probe of each kind, and new items."""
    return Evidence(
        quantities=quantities,
        refit_gain={m: Interval(0.01, -0.01, 0.03) for m in MODALITIES},
        archive=ArchiveEvidence(
            refit_gain=Interval(0.01, -0.02, 0.04),
            base_refit_gain=Interval(0.02, -0.01, 0.05),
            probes=(
                Probe(name="LambdaMART", gain=Interval(0.015, 0.01, 0.02), counts=True),
                Probe(name="network on products", gain=Interval(0.0, -0.01, 0.01), counts=False),
            ),
            ndcg_gain=Interval(0.04, 0.0, 0.08),
            over_tuned_v1=Interval(0.01, -0.02, 0.04),
        ),
        strongest_blind=Lead(rival="LambdaMART without visual", interval=Interval(0.01, -0.01, 0.03)),
        rivals={
            "base": Lead(rival="the base recipe", interval=Interval(-0.025, -0.04, -0.01)),
            "trees": Lead(rival="LambdaMART", interval=Interval(-0.001, -0.012, 0.01), with_suspect=True),
            "sum": Lead(rival="weighted sum with V1", interval=Interval(0.012, -0.03, 0.054), with_suspect=True),
        },
        cold=Cold(needed=True, queries=80, gain=Interval(0.02, 0.001, 0.039), refit_gain={}),
        queries=600,
        trainings=(29, 30),
        fewest=5,
        members=4,
    )


def spelt(interval):
    return {"mean": interval.mean, "ci_low": interval.low, "ci_high": interval.high}


def baselines():
    """baselines.csv: every reference on both splits, and the base recipe on the test split."""
    known = {"V1": "v1", "visual alone": "single", "LambdaMART": "trees", TUNED: "tuned v1 trees"}
    rows = [
        {"name": name, "role": role, "split": split, "ndcg": 0.55, "ndcg_gain": 0.0 if role == "v1" else 0.01}
        | {"ndcg_gain_ci_low": -0.01, "ndcg_gain_ci_high": 0.03, "v1_correlation": correlation, "detail": HOSTILE}
        for split, correlation in (("validation", 0.955), ("test", 0.944))
        for name, role in known.items()
    ]
    base = {"name": "base recipe", "role": "base", "split": "test", "detail": "the V2 that you have"}
    return pd.DataFrame([*rows, rows[-1] | base])


def ablation():
    lists = random_lists(queries=40)
    done = Measured(
        kind="single",
        removed=("unimodal heads",),
        changes="loss.unimodal 0.3 → 0",
        status="measured",
        runs=[random_outputs(lists, seed=100 + seed, noise=1.5) for seed in range(2)],
    )
    seen = dataclasses.replace(
        done, removed=("contrastive",), status="screened", runs=(), screened={"ndcg_gain": -0.01}
    )
    lost = dataclasses.replace(seen, removed=("V1 decorrelation",), status="not trained", screened={"ndcg_gain": nan})
    intact = [random_outputs(lists, seed=seed) for seed in range(2)]
    return effect_table("t0004", "test", intact, [done, seen, lost], [o.name for o in PHASE.objectives])


def first_screen(text):
    """What stands above the sections, as it is read."""
    above = text[text.index("<body>") : text.index("<nav")]
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", above)).replace("\u00a0", " ").split())
