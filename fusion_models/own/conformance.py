"""What a module of one's own must do to be searched, refitted, blanked, resumed and served: checked on real lists.

Each check gives sentences, one a failure, that say what to do; none where all is well.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fusion_models.config import Recipe
from fusion_models.data import RankingDataset
from fusion_models.data.batch import Batch
from fusion_models.export import ExportError, export_program
from fusion_models.losses import Step, total_loss
from fusion_models.metrics import BLANKS, blank
from fusion_models.modalities import usual_suspect
from fusion_models.models import TrainableRanker, build_ranker
from fusion_models.models.applicability import terms_off
from fusion_models.models.own.reference import OwnModel, OwnModelError, own_model
from fusion_models.models.own.space import misfits, outside
from fusion_models.training import load, save, start, train
from fusion_models.training.stack import why_alone
from fusion_models.work.foreign import first_line

QUERIES = 12
STEPS = 3
"""Steps of training after which every parameter must have moved: what starts at zero holds others back at first."""
CLOSE = 1e-4
"""Scores that differ by less, relative to their spread, are the same."""
SEED = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """One check: its name, and what is amiss."""

    name: str
    failures: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Nothing is amiss."""
        return not self.failures


def conformance(reference: str, data: RankingDataset) -> Iterator[Finding]:
    """Check the module on training lists of `data`, check after check.

    Where it cannot be built nothing else is checked. Raises OwnModelError where it cannot be imported.
    """
    bench = Bench(own_model(reference), data)
    for name, check in CHECKS.items():
        try:
            failures = tuple(check(bench))
        except Exception as error:  # whatever somebody's module raises is a finding
            said = str(error) if isinstance(error, OwnModelError) else f"it raised {type(error).__name__}: {error}"
            failures = (said,)
        yield Finding(name=name, failures=failures)
        if name == BUILDS and failures:
            return


def notes(reference: str, data: RankingDataset) -> list[str]:
    """What a run will do with the module, in sentences: neither good nor bad."""
    bench = Bench(own_model(reference), data)
    own, out = bench.own, []
    off = terms_off(own, bench.recipe)
    if off:
        out.append(f"off, since it does not return what they read: {', '.join(off)}")
    out.append(f"a refit without a modality: {own.described()['without a modality']}")
    if not own.has_shares:
        out.append("no attention or gate: shares are read from gradients, and gates on shares from Shapley values")
    if own.has_loop:
        out.append("it brings its own training loop, which one process runs")
    alone = why_alone(start(bench.recipe, data, seed=SEED), data)
    out.append(f"trainings of it {'run one by one on a worker' if alone else 'may share kernels (--stack)'}")
    try:
        export_program(bench.ranker())
        out.append("torch.export takes it")
    except ExportError as error:
        out.append(f"torch.export refuses it, so it serves as it is: {first_line(error)}")
    return out


class Bench:
    """A module and some lists to try it on."""

    def __init__(self, own: OwnModel, data: RankingDataset) -> None:
        self.own, self.data = own, data
        names = data.schema.modalities
        plain = Recipe().for_modalities(names, usual_suspect(names))
        self.recipe = plain.with_own(own.defaults()).updated({"model.variant": own.reference, "model.context": "v1"})

    def ranker(self, recipe: Recipe | None = None, *, seed: int = SEED) -> TrainableRanker:
        """A fresh ranker in evaluation mode."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return build_ranker(recipe or self.recipe, self.data.schema, self.data.statistics).eval()

    @cached_property
    def batch(self) -> Batch:
        """Lists of different lengths, padded; features of padded places are noise, which nobody may read."""
        rows = self.data.rows("train")
        lengths = self.data.candidates[rows]
        chosen = np.unique(np.linspace(0, len(rows) - 1, QUERIES).round().astype(int))
        batch = self.data.gather(rows[np.argsort(lengths, kind="stable")[chosen]])
        noise = torch.Generator().manual_seed(SEED)
        features = {
            m: torch.where(batch.valid.unsqueeze(-1), x, torch.randn(x.shape, generator=noise))
            for m, x in batch.features.items()
        }
        return padded(batch._replace(features=features), batch.labels.shape[1] + 1)

    @property
    def with_tuned_v1(self) -> Recipe:
        """The recipe whose context lets both of V1's scores in."""
        return self.recipe.updated({"model.context": "tuned_v1"})

    @cached_property
    def seen(self) -> Batch:
        """`batch` as such a recipe's ranker reads it: a score behind the context, here a random one."""
        tuned = torch.randn(*self.batch.labels.shape, 1, generator=torch.Generator().manual_seed(SEED))
        return self.batch._replace(context=torch.cat([self.batch.context, tuned], dim=-1))

    @cached_property
    def trained(self) -> tuple[TrainableRanker, dict[str, float], dict[str, float | None]]:
        """A ranker after a few steps; by buffer how far it moved, by parameter its largest gradient (None: none).

        Its context lets both of V1's scores in, so that whatever reads them has a gradient.
        """
        model, batch = self.ranker(self.with_tuned_v1).train(), self.seen
        generator = torch.Generator().manual_seed(SEED)
        before = {name: b.detach().clone() for name, b in model.named_buffers()}
        optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
        largest: dict[str, float | None] = {n: None for n, p in model.named_parameters() if p.requires_grad}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            for _ in range(STEPS):
                optimiser.zero_grad(set_to_none=True)
                step = Step(forward=model, batch=batch, config=self.recipe.loss, out=model(batch), generator=generator)
                total_loss(step)[0].backward()  # type: ignore[no-untyped-call]
                for name, parameter in model.named_parameters():
                    if parameter.grad is not None and name in largest:
                        largest[name] = max(largest[name] or 0.0, float(parameter.grad.abs().max()))
                optimiser.step()
        moved = {n: float((b.double() - before[n].double()).abs().max()) for n, b in model.named_buffers() if b.numel()}
        return model.eval(), moved, largest


def padded(batch: Batch, length: int) -> Batch:
    """The same lists with places of padding behind them, `length` in all."""
    more = length - batch.labels.shape[1]
    index = torch.arange(length).clamp(max=batch.labels.shape[1] - 1)
    out = batch.changed(lambda x: x if x.dim() == 1 else x.index_select(1, index))
    valid = out.valid.clone()
    valid[:, length - more :] = False
    return out._replace(valid=valid)


def candidates(batch: Batch, row: int | slice, places: Tensor) -> Batch:
    """One list, or all, with the candidates at `places`."""
    rows = slice(row, row + 1) if isinstance(row, int) else row
    return batch.changed(lambda x: x[rows] if x.dim() == 1 else x[rows].index_select(1, places))


@torch.no_grad()
def scores(model: nn.Module, batch: Batch) -> Tensor:
    """`[B, L]`."""
    return model(batch).scores  # type: ignore[no-any-return]


def differ(one: Tensor, other: Tensor) -> bool:
    """Whether two rows of scores differ by more than rounding."""
    scale = float(torch.cat([one.flatten(), other.flatten()]).std()) if one.numel() > 1 else 1.0
    return bool((one - other).abs().max() > CLOSE * max(scale, 1e-3))


def _builds(bench: Bench) -> Iterator[str]:
    modalities = bench.recipe.model.modalities
    bench.ranker()
    for kept in [*((m,) for m in modalities), *(tuple(x for x in modalities if x != m) for m in modalities)]:
        try:
            scores(bench.ranker(bench.recipe.restricted(kept)), bench.batch)
        except Exception as error:
            yield f"a refit with {'+'.join(kept)} alone cannot be built or scored ({error}): a run needs it"


def _space(bench: Bench) -> Iterator[str]:
    names = bench.data.schema.modalities
    suspected = [bench.recipe, *(bench.recipe.for_modalities(names, m) for m in names)]
    yield from min((list(misfits(bench.own, recipe)) for recipe in suspected), key=len) or outside(
        bench.own, bench.recipe
    )


def _shapes(bench: Bench) -> Iterator[str]:
    model = bench.ranker()
    lists = (
        bench.batch,
        candidates(bench.batch, slice(None), torch.tensor([0])),
        candidates(bench.batch, 0, _real(bench.batch, 0)),
    )
    for batch in lists:
        before = {m: x.clone() for m, x in batch.features.items()}
        found = scores(model, batch)
        if not torch.isfinite(found[batch.valid]).all():
            yield f"scores of {batch.labels.shape[0]} x {batch.labels.shape[1]} candidates are not all finite"
        changed = [m for m, x in batch.features.items() if not torch.equal(x, before[m])]
        if changed:
            yield f"forward changes its inputs in place ({', '.join(changed)}): work on a copy (x = x * 2, not x *= 2)"


def _real(batch: Batch, row: int) -> Tensor:
    return torch.nonzero(batch.valid[row]).flatten()


def _padding(bench: Bench) -> Iterator[str]:
    model = bench.ranker()
    whole = scores(model, bench.batch)
    for row in range(len(whole)):
        real = _real(bench.batch, row)
        if differ(whole[row, real], scores(model, candidates(bench.batch, row, real))[0]):
            yield (
                f"a list of {len(real)} candidates scores otherwise when it is padded to {whole.shape[1]}: keep padded "
                "places out by inputs.valid (a mask in attention, no mean over all places, no batch norm)"
            )
            return


def _permutation(bench: Bench) -> Iterator[str]:
    model = bench.ranker()
    order = torch.randperm(bench.batch.labels.shape[1], generator=torch.Generator().manual_seed(SEED))
    there = scores(model, candidates(bench.batch, slice(None), order))
    if differ(scores(model, bench.batch)[:, order][bench.batch.valid[:, order]], there[bench.batch.valid[:, order]]):
        yield "permuting a list's candidates does not permute its scores: do not read a candidate's place in the list"


def _gradient(bench: Bench) -> Iterator[str]:
    for name, largest in bench.trained[2].items():
        name = name.removeprefix("ranker.").removeprefix("fusion.")
        if largest is None:
            yield f"no gradient reaches {name}: use it in forward, or take it out (DDP's processes would wait for it)"
        elif largest == 0.0:
            yield f"the gradient of {name} is always 0: use it in forward, or take it out"
        elif not np.isfinite(largest):
            yield f"the gradient of {name} is not finite: look for a division or a logarithm of 0 in padded places"


def _buffers(bench: Bench) -> Iterator[str]:
    for name, moved in bench.trained[1].items():
        if moved > 0.0:
            yield (
                f"training changes the buffer {name.removeprefix('ranker.').removeprefix('fusion.')}, which differs "
                "from process to process then and sees padding (batch norm does so): take a layer norm"
            )


def _maskable(bench: Bench) -> Iterator[str]:
    model = bench.trained[0]
    plain = scores(model, bench.seen)
    for modality in model.modalities:
        for kind in BLANKS:
            generator = torch.Generator().manual_seed(SEED)
            mean = model.feature_mean(modality) if kind == "mean" else None
            found = scores(model, blank(bench.seen, modality, kind, mean=mean, generator=generator))
            if not torch.isfinite(found[bench.seen.valid]).all():
                yield f"with {modality} blanked ({kind}) scores are not finite: guard norms and divisions (eps)"
            elif kind == "zero" and torch.equal(found, plain):
                yield f"blanking {modality} changes no score: forward does not read inputs.features[{modality!r}]"


def _save_and_load(bench: Bench) -> Iterator[str]:
    model, other = bench.trained[0], bench.ranker(bench.with_tuned_v1, seed=SEED + 1)
    other.load_state_dict({k: v.detach().clone() for k, v in model.state_dict().items()})
    if not torch.equal(scores(model, bench.seen), scores(other, bench.seen)):
        yield (
            "weights saved and loaded score otherwise: what scores depend on must be a Parameter or a registered "
            "buffer, not a plain attribute"
        )


def _determinism(bench: Bench) -> Iterator[str]:
    one, two = bench.ranker(), bench.ranker()
    odd = [n for n, x in one.state_dict().items() if not torch.equal(x, two.state_dict()[n])]
    if odd:
        yield f"one seed gives two rankers ({odd[0]} differs): draw initial weights from torch's own generator"
    if not torch.equal(scores(one, bench.batch), scores(one, bench.batch)):
        yield "scoring twice gives two results in evaluation mode: let self.training decide about noise and dropout"


def _resumes(bench: Bench) -> Iterator[str]:
    """A loop of one's own alone: ours resumes whatever it trains."""
    if not bench.own.has_loop:
        return
    recipe = bench.recipe.updated({"train.epochs": 2, "train.patience": 2})
    whole, first = start(recipe, bench.data, seed=SEED), start(recipe, bench.data, seed=SEED)
    told = [epoch.evaluation.mean_ndcg for epoch in train(whole, bench.data)]
    next(train(first, bench.data), None)
    with tempfile.TemporaryDirectory(prefix="fusion-check-") as place:
        save(first, Path(place) / "training")
        again = load(Path(place) / "training", recipe, bench.data, seed=SEED)
    next(train(again, bench.data), None)
    if len(told) < 2:
        yield f"train_epochs ended after {len(told)} epochs of 2: yield once an epoch, from training.epoch on"
    elif any(not torch.equal(x, again.model.state_dict()[n]) for n, x in whole.model.state_dict().items()):
        yield (
            "a training that goes on from a checkpoint differs from one that never stopped: begin train_epochs at "
            "training.epoch, and keep its state in training.optimiser and the module's buffers"
        )


BUILDS = "builds, whole and without each modality"
CHECKS: dict[str, Callable[[Bench], Iterator[str]]] = {
    BUILDS: _builds,
    "its ranges are of its settings": _space,
    "shapes": _shapes,
    "padding": _padding,
    "permutation": _permutation,
    "gradient at every parameter": _gradient,
    "no buffer that training changes": _buffers,
    "maskable": _maskable,
    "save and load": _save_and_load,
    "determinism": _determinism,
    "its own loop resumes": _resumes,
}
