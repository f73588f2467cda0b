"""The verdict on a V2 that was given: never GO, and never ARCHIVE by the refit rule, without enough refits."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from fusion_models.metrics import Interval
from fusion_models.metrics.intervals.ensembles import arm
from fusion_models.probes.power import Plant, Power
from fusion_models.quantities import Lists, Outputs
from search.audit.checks import answers_check
from search.audit.given import Given, whole_key
from search.audit.judge import Case, archive_asked, chosen_on_validation, gather, judge
from search.audit.tables import evidence_of
from search.pipeline.baselines import Reference
from search.pipeline.confirmation.arms import ArmKey
from search.pipeline.confirmation.probing import FoundByProbe
from search.run_store.facts import Facts
from search.run_store.looks import Look
from spaces import PHASE4, PHASES

MODALITIES = ("visual", "text", "metadata")
QUERIES, LENGTH = 600, 12
GENERATOR = np.random.default_rng(0)
LABELS = GENERATOR.integers(0, 4, (QUERIES, LENGTH)).astype(float)


def noisy(weight, seed):
    return LABELS + weight * np.random.default_rng(seed).normal(size=LABELS.shape)


LISTS = Lists(
    rows=np.arange(QUERIES), labels=LABELS, v1=noisy(4.0, 1), valid=np.ones((QUERIES, LENGTH), dtype=np.bool_)
)


def given(trainings, refits, *, image=True):
    """A V2 that needs the image, or one that does not, with refits without it."""
    shares = np.tile([0.34, 0.33, 0.33], (QUERIES, 1, 1)).reshape(QUERIES, 1, 3)
    blanked = {(m, "zero"): noisy(6.0, 50)[None] for m in MODALITIES}
    runs = [
        Outputs(lists=LISTS, scores=noisy(1.0, 100 + i), modalities=MODALITIES, blanked=blanked, shares=shares)
        for i in range(trainings)
    ]
    trained = {whole_key(MODALITIES): runs}
    blind = [Outputs(lists=LISTS, scores=noisy(2.5 if image else 1.0, 200 + i)) for i in range(refits)]
    if blind:
        trained[ArmKey("finalist", ("text", "metadata"))] = blind
    return Given(modalities=MODALITIES, trained=trained)


def reference(role, name, weight, sees=False):
    runs = tuple(Outputs(lists=LISTS, scores=noisy(weight, 300 + i)) for i in range(5))
    return Reference(role=role, name=name, trainings=runs, sees_suspect=sees)


def probe(gain):
    return FoundByProbe(
        name="LambdaMART",
        with_it=arm(np.stack([noisy(2.5 - gain, 400 + i) for i in range(5)]), LABELS, LISTS.valid, 2),
        without=arm(np.stack([noisy(2.5, 500 + i) for i in range(5)]), LABELS, LISTS.valid, 2),
        power=Power(
            probe="LambdaMART",
            plants=(Plant(suspect="visual", seed=0, strength=1.0, worth=0.02),),
            gain=Interval(0.02, 0.015, 0.025),
        ),
    )


def case(trainings, refits, *, image=True, probes=()):
    there = given(trainings, refits, image=image)
    references = [
        Reference(role="v1", name="V1", trainings=(Outputs(lists=LISTS, scores=LISTS.v1),)),
        reference("trees", "LambdaMART", 3.0, sees=True),
        reference("blind trees", "LambdaMART without visual", 3.5),
        reference("tuned v1 trees", "tuned V1", 3.8),
    ]
    return Case(
        test=there,
        validation=there,
        references={"validation": references, "test": references},
        clusters=None,
        members=1,
        look=Look(number=1),
        facts=Facts(),
        recurring=False,
        images=False,
        probes=probes,
    )


def verdict(case, phase=PHASES["phase1"]):
    return judge(case, phase, gather(case, phase))


def test_a_healthy_v2_is_go_with_five_refits():
    found = verdict(case(5, 5))
    assert found.verdict == "GO", found.reasons


@pytest.mark.parametrize(("trainings", "refits"), [(1, 0), (5, 0), (5, 4), (4, 5), (1, 5), (1, 1), (2, 2)])
def test_and_never_without(trainings, refits):
    for phase in (*PHASES.values(), PHASE4):
        found = verdict(case(trainings, refits), phase)
        assert found.verdict == "PAUSE_AND_FIX"
        assert any(gate.status in ("not measured", "fail") for gate in found.gates)
    assert any("v2_score.refit.text+metadata" in gate.needed for gate in verdict(case(trainings, refits)).gates)


def test_an_image_that_has_nothing_to_give_archives_with_five_refits_and_never_with_four():
    with_probe = (probe(0.0),)
    enough = case(5, 5, image=False, probes=with_probe)
    assert archive_asked(enough, PHASES["phase1"])
    refit = gather(enough, PHASES["phase1"]).archive.refit_gain
    assert abs(refit.mean) < 0.01
    wide = dataclasses.replace(PHASES["phase1"].thresholds, nothing_to_give=0.05)
    easier = dataclasses.replace(PHASES["phase1"], thresholds=wide)
    assert verdict(enough, easier).verdict == "ARCHIVE"
    for trainings, refits in ((5, 4), (4, 5), (5, 0), (1, 0)):
        few = case(trainings, refits, image=False, probes=with_probe)
        assert not archive_asked(few, easier)
        (rule,) = [r for r in verdict(few, easier).archive_rules if r.key == "nothing to give"]
        assert not rule.measured
        assert "v2_score.refit.text+metadata" in rule.note
        assert verdict(few, easier).verdict == "PAUSE_AND_FIX"


def test_a_lead_of_one_training_is_its_own_and_says_so():
    found = verdict(case(1, 0), PHASES["phase3"])
    leads = [gate for gate in found.gates if gate.kind == "rival" and gate.key != "rival: base"]
    measured = [gate for gate in leads if gate.status != "not measured"]
    assert measured
    assert all("this training of V2 alone" in gate.note for gate in measured)
    several = verdict(case(5, 0), PHASES["phase3"])
    assert all("alone" not in gate.note for gate in several.gates if gate.kind == "rival")


def test_without_validation_scores_the_strongest_blind_rival_is_the_test_split_s():
    known = case(5, 5)
    unknown = dataclasses.replace(known, validation=None)
    (gate,) = [g for g in verdict(unknown, PHASES["phase3"]).gates if g.key == "lead: blind"]
    assert "the rival was chosen on the test split" in gate.note
    assert gate.value <= next(g.value for g in verdict(known, PHASES["phase3"]).gates if g.key == "lead: blind") + 1e-12


@pytest.mark.parametrize("name", ["phase1", "phase2", "phase3", "phase4"])
def test_every_gate_that_is_not_measured_says_what_to_add(name):
    phase = (PHASES | {"phase4": PHASE4})[name]
    bare = case(1, 0)
    plain = Outputs(lists=LISTS, scores=noisy(1.0, 1), modalities=MODALITIES)
    bare = dataclasses.replace(
        bare, test=Given(modalities=MODALITIES, trained={whole_key(MODALITIES): [plain]}), recurring=True
    )
    found = verdict(bare, phase)
    unmeasured = [gate for gate in found.gates if gate.status == "not measured"]
    assert unmeasured
    assert all(gate.needed for gate in unmeasured), [gate.name for gate in unmeasured if not gate.needed]


def blind_v2(probes=()):
    """A V2 worse than V1 and no refits, where trees see nothing either: phase 3's late rules hold."""
    found = case(1, 0, probes=probes)
    runs = [Outputs(lists=LISTS, scores=noisy(6.0, 900), modalities=MODALITIES)]
    references = [dataclasses.replace(r, trainings=r.trainings) for r in found.references["test"] if r.role != "trees"]
    references.append(reference("trees", "LambdaMART", 6.5, sees=True))
    test = Given(modalities=MODALITIES, trained={whole_key(MODALITIES): runs})
    return dataclasses.replace(
        found, test=test, validation=None, references={"validation": references, "test": references}
    )


def test_no_rule_archives_before_a_probe_was_asked():
    """Late rules need no refits; a probe that earns from the image holds them off, so it must be asked."""
    phase = PHASES["phase3"]
    assert verdict(blind_v2(), phase).verdict == "ARCHIVE"
    assert archive_asked(blind_v2(), phase)
    found = verdict(blind_v2((probe(1.0),)), phase)
    assert found.verdict == "PAUSE_AND_FIX"
    assert any("does not see what the probe LambdaMART sees" in reason for reason in found.reasons)


def test_evidence_says_on_which_split_the_strongest_blind_rival_was_chosen_and_what_is_released():
    """In phase 1 too, which has no gate on that rival whose note would say it."""
    phase, known = PHASES["phase1"], case(1, 0)
    here = dataclasses.replace(known, validation=None, test=dataclasses.replace(known.test, released=("42",)))
    assert chosen_on_validation(known, phase)
    data = SimpleNamespace(subdomain=np.full(QUERIES, "all"))
    said = evidence_of(data, here, phase, gather(here, phase))
    assert said["strongest_blind"]["chosen_on"] == "test"
    assert said["released"] == ["42"]


def test_a_validation_split_without_the_refits_does_not_choose_the_strongest_blind_rival():
    """Else the refit, the hardest rival, would be left out without a word."""
    known = case(5, 5)
    bare = dataclasses.replace(known, validation=given(5, 0))
    leads = {
        name: next(g for g in verdict(c, PHASES["phase3"]).gates if g.key == "lead: blind")
        for name, c in (("bare", bare), ("known", known))
    }
    assert "the rival was chosen on the test split" in leads["bare"].note
    assert leads["bare"].value == pytest.approx(leads["known"].value, abs=0.02)


def test_a_ranker_that_reads_the_suspect_is_no_blind_rival():
    found = case(5, 5)
    seeing = reference("tuned v1 trees", "tuned V1 that reads it", 0.5, sees=True)
    more = {split: [*rankers, seeing] for split, rankers in found.references.items()}
    (gate,) = [
        g
        for g in verdict(dataclasses.replace(found, references=more), PHASES["phase3"]).gates
        if g.key == "lead: blind"
    ]
    assert "tuned V1 that reads it" not in gate.note


def with_v2(found, v2, refit):
    """The case with other scores of V2 and of its refit without the image, by training."""
    run, blind = whole_key(MODALITIES), ArmKey("finalist", ("text", "metadata"))
    trained = {
        run: [dataclasses.replace(o, scores=v2(i)) for i, o in enumerate(found.test.trained[run])],
        blind: [Outputs(lists=LISTS, scores=refit(i)) for i in range(5)],
    }
    there = dataclasses.replace(found.test, trained=trained)
    check = answers_check(there.artefact(1))
    return dataclasses.replace(found, test=there, validation=there, checks=(check,))


@pytest.mark.parametrize("name", ["phase1", "phase2", "phase3", "phase4"])
def test_a_v2_that_is_the_label_is_never_go(name):
    phase = (PHASES | {"phase4": PHASE4})[name]
    leaking = with_v2(case(5, 5), lambda i: LABELS + noisy(0.0, i) * 1e-3, lambda i: noisy(2.5, 200 + i))
    found = verdict(leaking, phase)
    assert found.verdict == "PAUSE_AND_FIX"
    if name == "phase4":
        (gate,) = [g for g in found.gates if g.quantity == "integrity_open"]
        assert "V2's scores are not the labels (its nDCG): fail" in gate.needed
    else:
        (gate,) = [g for g in found.gates if g.key == "answers"]
        assert (gate.status, gate.value) == ("fail", pytest.approx(1.0))
    honest = with_v2(case(5, 5), lambda i: noisy(1.0, 100 + i), lambda i: noisy(2.5, 200 + i))
    assert not [g for g in verdict(honest, phase).gates if g.key == "answers"]


ODD = {
    "V1 itself": (lambda i: LISTS.v1, lambda i: noisy(4.0, 900 + i)),
    "a monotone map of V1": (lambda i: np.exp(LISTS.v1) + i, lambda i: noisy(4.0, 900 + i)),
    "one number": (lambda i: np.full(LABELS.shape, float(i)), lambda i: noisy(4.0, 900 + i)),
    "two numbers": (lambda i: (noisy(1.0, 100 + i) > 1.5).astype(float), lambda i: noisy(2.5, 200 + i)),
    "worse than chance": (lambda i: -noisy(1.0, 100 + i), lambda i: -noisy(2.5, 200 + i)),
}


@pytest.mark.parametrize("name", [*PHASES, "phase4"])
@pytest.mark.parametrize("odd", ODD)
def test_odd_scores_come_to_a_verdict_that_is_not_go(odd, name, recwarn):
    found = with_v2(case(5, 5, probes=(probe(0.5),)), *ODD[odd])
    decision = verdict(found, (PHASES | {"phase4": PHASE4})[name])
    gates = {gate.name: gate for gate in decision.gates}
    if odd != "two numbers":
        assert decision.verdict != "GO"
        assert gates["ndcg_gain"].status in ("fail", "undecided", "not measured")
    if "V1" in odd:
        assert gates["resume: V1 rank correlation"].value == pytest.approx(1.0, abs=1e-3)
    assert all(g.needed for g in decision.gates if g.status == "not measured" and g.kind == "quantity")
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning)]


def test_the_gate_on_trainings_says_which_one_is_released():
    known, phase = case(1, 0), PHASES["phase1"]
    evidence = gather(known, phase)
    for released, said in (((), ""), (("42",), "released: training 42, "), (("42", "7"), "trainings 42, 7, ")):
        named = dataclasses.replace(known, test=dataclasses.replace(known.test, released=released))
        (gate,) = [g for g in judge(named, phase, evidence).gates if g.key == "trainings"]
        assert said in gate.note
        assert bool(gate.note) == bool(released)


def test_where_refits_were_given_the_archive_rule_waits_for_probes_alone():
    (rule,) = [r for r in verdict(case(5, 5)).archive_rules if r.key == "nothing to give"]
    assert not rule.measured
    assert rule.note == "no probe was trained: the refit gain leaves no doubt, or every probe failed"


def test_a_table_s_milliseconds_that_are_as_small_as_seconds_are_doubted():
    doubted, timed = (
        dataclasses.replace(c, test=dataclasses.replace(c.test, latency=np.full(QUERIES, ms)))
        for c, ms in ((case(1, 0), 0.045), (case(1, 0), 45.0))
    )
    for found, notes in ((doubted, True), (timed, False)):
        (gate,) = [g for g in verdict(found, PHASE4).gates if g.quantity == "latency_p95_ms"]
        assert ("are these milliseconds, and not seconds?" in gate.note) == notes
