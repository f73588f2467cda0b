"""What a verdict leaves beside its decision: rows of the short list, baselines.csv, evidence.json, examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from fusion_models.contribution import Contribution
from fusion_models.data.clusters import query_clusters
from fusion_models.quantities import Outputs, ensemble
from search.analysis.decision import Evidence
from search.analysis.measure import ConfirmedRow, quantities
from search.pipeline.baselines import Reference, reference_table
from search.pipeline.confirmation.examples import write_examples
from search.pipeline.confirmation.explained import write_evidence
from search.pipeline.confirmation.finalist import Finalist
from search.pipeline.confirmation.gathering import Measured
from search.pipeline.confirmation.judged_short_list import SHORT_LISTED
from search.pipeline.confirmation.short_list import Candidate
from search.pipeline.context import Run
from search.pipeline.late import costs_itself
from search.run_store.csv_tables import write_csv
from search.run_store.looks import Look

Items = Literal["all", "without cold"]
"""What trainings are trained on (see `Job.items`)."""


def explain(
    run: Run,
    whole: Measured,
    evidence: Evidence,
    contribution: Callable[[], Contribution],
    *,
    chance: npt.NDArray[np.float64],
    level: float,
) -> None:
    """evidence.json and the examples: nothing decides by them, and the look is spent, so that neither ends the run."""
    given, place = None, run.folder.path
    with costs_itself(run.console, "what each modality gives the finalist"):
        given = contribution()
    with costs_itself(run.console, "evidence.json", files=[place / "evidence.json"]):
        write_evidence(run, whole, evidence, given, chance=chance, level=level)
    with costs_itself(run.console, "the examples", files=[place / "agreement.csv", place / "examples.parquet"]):
        write_examples(run.folder, run.data, whole.artefact)


def test_rows(
    found: Sequence[Candidate],
    finalist: Finalist,
    whole: Measured,
    said: Mapping[str, Outputs],
    look: Look,
    items: Items,
) -> list[ConfirmedRow]:
    """The artefact at the level of this look; the others of the short list share its error equally (Bonferroni).

    The base recipe is that of its deciding arm where it has one, so that two rows at least are of like trainings; they
    are trained on `items`.
    """
    rows = []
    for candidate in found:
        mine = candidate.trial_id == finalist.trial_id
        arm = whole.plan.whole if mine else whole.plan.base if candidate.is_base else None
        deciding = list(whole.trained.get(arm, ()))[: whole.members] if arm is not None else []
        runs = deciding or [said[t] for t in candidate.trainings]
        level = look.level if mine else 1.0 - look.alpha / max(1, len(found) - 1)
        rows.append(
            ConfirmedRow(
                trial_id=candidate.trial_id,
                name="base" if candidate.is_base else candidate.trial_id,
                finalist=mine,
                split=look.split,
                seeds=len(runs),
                trainings="deciding" if deciding else SHORT_LISTED,
                items=items if deciding else "all",
                quantities=quantities(ensemble(runs), clusters=whole.clusters, level=level),
            )
        )
    return rows


def write_baselines(run: Run, table: pd.DataFrame, whole: Measured, references: Sequence[Reference]) -> None:
    """baselines.csv: every reference on validation and on the deciding split, and there the base recipe too."""
    before = reference_table(references, clusters=query_clusters(run.data, "validation"), split="validation")
    base = whole.base
    if base is not None:
        said = f"the V2 that you have: {whole.members} trainings averaged"
        own = Reference(role="base", name="base recipe", trainings=(base,), detail=said, sees_suspect=True)
        more = reference_table([own], clusters=whole.clusters, split=run.deciding)
        table = pd.concat([table, more], ignore_index=True)
    write_csv(pd.concat([before, table], ignore_index=True), run.folder, "baselines.csv")
