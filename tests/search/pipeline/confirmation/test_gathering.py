"""Evidence from what trainings said: weights of queries and the metric reach every number of it."""

import dataclasses
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from outputs import MODALITIES, random_lists, random_outputs

from fusion_models.data import RankingDataset
from fusion_models.metrics.ranking_metric import RankingMetric
from fusion_models.quantities import Outputs, ensemble
from search.analysis.effects import Measured as Variation
from search.analysis.effects import effect_table
from search.analysis.judged import Lead
from search.analysis.measure import at_level, quantities
from search.pipeline.baselines import Reference, ReferenceRole, reference_table
from search.pipeline.confirmation.arms import ArmKey, plan_arms
from search.pipeline.confirmation.explained import fusion_gains, refit_values, subdomain_gains
from search.pipeline.confirmation.gathering import (
    BASE_REFIT,
    REFIT,
    REFIT_WITH_V1,
    Chosen,
    Listed,
    Measured,
    _adding_v1,
    archive_evidence,
    blind_lead,
    choose_rivals,
    fewest_of,
    refit_gains,
    rival_leads,
    shapley,
)
from spaces import PHASES

PHASE3 = PHASES["phase3"]

QUERIES = 90
TIMES = np.random.default_rng(8).integers(1, 4, QUERIES)
AGAIN = np.repeat(np.arange(QUERIES), TIMES)
LISTS = random_lists(queries=QUERIES)
RECIPE = PHASE3.base.updated({"model.variant": "late_sum"})
PLAN = plan_arms(PHASE3, RECIPE, is_base=False)


def spoken(change: Any) -> tuple[dict[ArmKey, list[Outputs]], list[Reference]]:
    """Three trainings of each arm, better the more modalities it has; two references. `change`: outputs -> outputs."""
    trained = {
        key: [
            change(random_outputs(LISTS, seed=10 * place + s, noise=2.2 - 0.4 * len(key.modalities))) for s in range(3)
        ]
        for place, key in enumerate(PLAN.recipes)
    }
    trees = tuple(change(random_outputs(LISTS, seed=200 + s, noise=1.6)) for s in range(3))
    v1 = change(Outputs(lists=LISTS, scores=LISTS.v1))
    tuned = tuple(change(random_outputs(LISTS, seed=300 + s, noise=1.8)) for s in range(3))
    return trained, [
        Reference(role="v1", name="V1", trainings=(v1,)),
        Reference(role="trees", name="LambdaMART", trainings=trees, sees_suspect=True),
        Reference(role="tuned v1 trees", name="tuned V1", trainings=tuned),
    ]


def found(change: Any) -> Measured:
    trained, references = spoken(change)
    return Measured(phase=PHASE3, plan=PLAN, members=2, trained=trained, references=references)


def with_lists(**changes: Any) -> Any:
    def change(outputs: Outputs) -> Outputs:
        return dataclasses.replace(outputs, lists=dataclasses.replace(outputs.lists, **changes))

    return change


def everything(whole: Measured, subdomain: Any) -> dict[str, float]:
    """Every mean over queries of what a decision reads and a report shows."""
    chance = np.where(whole.artefact.lists.relevant, 0.3 + 0.1 * np.sin(whole.artefact.lists.v1[:, 0]), np.nan)
    chosen = choose_rivals(whole)
    archive = archive_evidence(whole, chosen, [], 0.05)
    lead = cast("Lead", blind_lead(whole, chosen))
    out = {f"quantity {n}": i.mean for n, i in quantities(whole.artefact).items()}
    out |= {f"refit gain {n}": i.mean for n, i in refit_gains(whole).items()}
    out |= {f"lead {n}": i.interval.mean for n, i in rival_leads(whole).items() if i}
    out |= {f"shapley {n}": i.mean for n, i in shapley(whole, chance).items()}
    out |= {f"refit value {n}": v for n, v in refit_values(whole, chance).items()}
    out |= {f"fusion gain {n}": g["mean"] for n, g in fusion_gains(whole).items()}
    out |= {"blind": lead.interval.mean, "v1 weight": chosen.weight}
    for name in ("refit_gain", "base_refit_gain", "ndcg_gain", "over_tuned_v1", "base_drop", "drop_rise"):
        out[f"archive {name}"] = getattr(archive, name).mean
    data = cast("RankingDataset", SimpleNamespace(subdomain=subdomain))
    out |= {f"subdomain {e['subdomain']}": e["mean"] for e in subdomain_gains(data, whole.artefact, clusters=None)}
    table = reference_table(whole.references)
    out |= {f"baseline {n}": v for n, v in zip(table["name"], table["ndcg_gain"], strict=True)}
    runs = whole.trained[whole.plan.whole], whole.trained[whole.plan.base]
    taken = Variation(kind="single", removed=("x",), changes="", status="measured", runs=runs[1])
    effects = effect_table("t", "test", runs[0], [taken], ["ndcg_gain", "v1_correlation", "visual_masking_drop"])
    out |= {f"effect {n}": c for n, c in zip(effects["objective"], effects["change"], strict=True)}
    return out


SUBDOMAIN = np.array(["a", "b", "c"], dtype=object)[np.arange(QUERIES) % 3]


def test_a_query_of_weight_two_counts_as_one_that_came_twice_in_all_evidence() -> None:
    mine = everything(found(with_lists(weight=TIMES.astype(float))), SUBDOMAIN)
    twice = found(lambda outputs: outputs.subset(AGAIN))
    theirs = everything(twice, SUBDOMAIN[LISTS.rows])
    assert mine.keys() == theirs.keys()
    assert {f"refit gain {m}" for m in MODALITIES} < mine.keys()
    assert mine == pytest.approx(theirs, abs=1e-9)
    plain = everything(found(lambda outputs: outputs), SUBDOMAIN)
    moved = [name for name in mine if name not in ("v1 weight", "baseline V1") and abs(mine[name] - plain[name]) < 1e-9]
    assert moved == []


def test_equal_weights_change_no_digit_of_the_evidence() -> None:
    plain = everything(found(lambda outputs: outputs), SUBDOMAIN)
    assert everything(found(with_lists(weight=np.full(QUERIES, 2.0))), SUBDOMAIN) == plain


def test_the_phases_metric_is_what_gains_are_of() -> None:
    metric = RankingMetric("mrr", 5)
    whole = found(with_lists(metric=metric))
    arm = whole.arms[whole.plan.whole]
    assert arm.mean[LISTS.relevant].mean() == pytest.approx(
        np.mean([np.nanmean(o.ndcg) for o in whole.trained[whole.plan.whole]]), abs=0.05
    )
    best = everything(whole, SUBDOMAIN)
    plain = everything(found(lambda outputs: outputs), SUBDOMAIN)
    assert all(best[name] != plain[name] for name in best if name.startswith(("refit gain", "lead", "archive")))


def test_the_rule_on_the_tuned_v1_reads_the_better_of_finalist_and_base():
    """The finalist is chosen for its gates: where the base recipe is the better ranker, V2 could still be that one."""
    whole = found(lambda outputs: outputs)
    chosen = dataclasses.replace(choose_rivals(whole), tuned_v1="tuned V1", better_is_base=False)
    finalist = archive_evidence(whole, chosen, [], 0.05).over_tuned_v1
    base = archive_evidence(whole, dataclasses.replace(chosen, better_is_base=True), [], 0.05).over_tuned_v1
    better = whole.arms[whole.plan.base].mean - whole.arms[whole.plan.whole].mean
    difference = np.nanmean(better)  # without the queries that have no relevant document
    assert abs(difference) > 1e-4
    assert base.mean - finalist.mean == pytest.approx(difference)


@pytest.mark.parametrize("name", [REFIT, REFIT_WITH_V1, BASE_REFIT, "LambdaMART", "tuned V1"])
def test_every_blind_rival_varies_by_its_own_trainings(name):
    """A rival of several trainings read as one fixed ranker made the gate pass falsely in 6.3 % instead of 2.5 %."""
    whole = found(lambda outputs: outputs)
    lead = cast("Lead", blind_lead(whole, Chosen(blind=name, weight=0.2)))
    assert lead.rival == name
    assert [arm.trainings for arm in lead.interval.variance.arms] == [3, 3]


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_the_refit_with_v1_is_the_mean_over_ensembles_of_as_many(weight):
    whole = found(lambda outputs: outputs)
    runs = whole.trained[whole.plan.without("visual")]
    pairs = [_adding_v1(LISTS, weight)(ensemble([runs[i], runs[j]]).scores) for i, j in ((0, 1), (0, 2), (1, 2))]
    theirs = np.mean([np.nanmean(LISTS.ndcg(scores)) for scores in pairs])
    mine = np.nanmean(whole.arms[whole.plan.whole].mean)
    lead = cast("Lead", blind_lead(whole, Chosen(blind=REFIT_WITH_V1, weight=weight)))
    assert lead.interval.mean == pytest.approx(mine - theirs)


@pytest.mark.parametrize("role", ["trees", "sum with v1"])
def test_a_rival_with_too_few_trainings_left_is_not_measured(role: ReferenceRole):
    """With as many trainings as an ensemble has members nothing says how such ensembles vary."""
    whole = found(lambda outputs: outputs)
    runs = tuple(random_outputs(LISTS, seed=400 + s) for s in range(3))
    leads = []
    for count in (2, 3):
        reference = Reference(role=role, name="rival", trainings=runs[:count])
        leads.append(rival_leads(dataclasses.replace(whole, references=[reference]))[role.split()[0]])
    assert leads[0] is None
    assert leads[1] is not None
    assert len(leads[1].interval.variance.arms) == 2


def test_the_fewest_trainings_are_those_of_rivals_too():
    _, references = spoken(lambda outputs: outputs)  # V1 has none, the others three
    assert fewest_of([8, 5], PHASE3, references) == 3
    assert fewest_of([8, 2], PHASE3, references) == 2
    assert fewest_of([8, 5], PHASES["phase1"], references) == 5, "which reads no rival"


@pytest.mark.parametrize("level", [0.95, 0.99])
def test_a_lead_read_the_other_way_round_keeps_its_skewness_on_its_side(level):
    """A given V2 has one training, so its lead over a recipe is that of the recipe over it, turned."""
    whole = found(lambda outputs: outputs)
    one = {whole.plan.whole: whole.trained[whole.plan.whole][:1]}
    given = dataclasses.replace(whole, trained=one, members=1, given=True)
    lead = cast("Lead", rival_leads(given, level)["trees"]).interval
    again = at_level(lead, level)
    assert (again.low, again.high) == pytest.approx((lead.low, lead.high))


@pytest.mark.parametrize(("trainings", "measured"), [(1, False), (2, True), (3, True)])
def test_the_best_of_the_short_list_varies_by_its_trainings_and_gains_what_they_gain_together(trainings, measured):
    whole = found(lambda outputs: outputs)
    runs = [random_outputs(LISTS, seed=500 + s, noise=1.5) for s in range(trainings)]
    chosen = choose_rivals(whole)
    archive = archive_evidence(whole, chosen, [], 0.05, listed=Listed(trial_id="t0007", runs=runs))
    assert archive.best_listed == "t0007"
    gain, over = archive.best_listed_gain, archive.best_listed_over_tuned_v1
    assert ((gain is not None), (over is not None)) == (measured, measured)
    if gain is not None and over is not None:
        assert gain.mean == pytest.approx(np.nanmean(ensemble(runs).ndcg - LISTS.v1_ndcg))
        assert [arm.trainings for arm in gain.variance.arms] == [trainings]
        assert [arm.trainings for arm in over.variance.arms] == [trainings, 3]
    assert archive_evidence(whole, chosen, [], 0.05).best_listed == ""
