"""What one training is made of: frozen, keyword-only dataclasses that fail when they are built.

A `Recipe` joins the three parts that a search varies. Its flat form (`{"model.width": 32, ...}`) is what travels
through a study, a table (`config.model.width`) and the `--set KEY=VALUE` flag. There, what belongs to a modality has
its name: `model.text_tokens` for each of the dataset's, and `loss.visual_importance` where `visual` is the suspect.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from fusion_models.modalities import (
    MODALITIES,
    SUSPECT,
    V1_READS,
    partner_of,
    read_by_v1,
    require_modalities,
    require_suspect,
)

V1 = "v1"
"""V1's score, among the things that a context may read."""

Flat = dict[str, Any]
Scalar = int | float | bool | str
"""What a setting of somebody's own module may be."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """One fusion ranker. The defaults are the roadmap's V2 (8 heads, 4 layers) at a laptop's width."""

    variant: str = "cross_attention"
    """A key of `fusion_models.models.VARIANTS`, or `package.module:Class`: a fusion or a whole ranker of one's own."""
    width: int = 32
    heads: int = 8
    layers: int = 4
    dropout: float = 0.1
    token_dropout: float = 0.0
    """Of the elements of every modality's tokens, before they are fused; `dropout` acts inside the fusion."""
    tokens_each: tuple[tuple[str, int], ...] = tuple((m, 1) for m in MODALITIES)
    """How many tokens each modality of the dataset is projected to, in the dataset's order; `model.NAME_tokens` in the
    flat form, a key a modality."""
    standardise: bool = True
    """Scale each feature by the training split's mean and deviation, inside the model."""
    scale: Literal["block", "feature"] = "block"
    """What shares one deviation: an embedding's features all together, which keeps its geometry, or each by itself.

    Features that are separate quantities (the schema says whose are) are always scaled one by one.
    """
    context: Literal["none", "v1", "tuned_v1"] = "none"
    """What joins the context input (never blanked, never in a share): nothing, V1's score, or a tuned V1's as well.

    A tuned V1 is what V1's team could do alone: trees (LambdaMART) on `context_reads`, out of fold in training. V1's
    own score stands beside theirs where they read it.
    """
    context_reads: tuple[str, ...] = (V1, *V1_READS)
    """What the trees of a tuned V1 read: V1's score (`v1`) and modalities. Without them it says nothing."""
    modalities: tuple[str, ...] = MODALITIES
    """The modalities the ranker is built with; a refit without one leaves it out here."""
    bottleneck_tokens: int = 2
    """Attention bottleneck: how many tokens carry what the modalities tell each other."""
    rank: int = 8
    """Low-rank tensor fusion: rank of the decomposition."""

    def __post_init__(self) -> None:
        _require(
            self.width >= 1 and self.layers >= 1,
            f"width and layers must be >= 1, got {self.width}, {self.layers}",
        )
        _require(
            self.heads >= 1 and self.width % self.heads == 0,
            f"model.width must be a multiple of model.heads, got width {self.width}, heads {self.heads}",
        )
        for name in ("dropout", "token_dropout"):
            _require(0.0 <= getattr(self, name) < 1.0, f"model.{name} must be in [0, 1), got {getattr(self, name)}")
        named = self.of_dataset
        require_modalities(named)
        _require(
            len(self.modalities) > 0 and tuple(m for m in named if m in self.modalities) == self.modalities,
            f"model.modalities must be a non-empty subset of {named}, in that order, got {self.modalities}",
        )
        readable = (V1, *named)
        _require(
            tuple(r for r in readable if r in self.context_reads) == self.context_reads,
            f"model.context_reads must be a subset of {readable}, in that order, got {self.context_reads}",
        )
        _require(
            self.context != "tuned_v1" or len(self.context_reads) > 0,
            f"model.context tuned_v1 needs something to read: name some of {readable} in model.context_reads",
        )
        for modality, count in self.tokens_each:
            _require(count >= 1, f"model.{modality}_tokens must be >= 1, got {count}")
        _require(self.bottleneck_tokens >= 1, f"model.bottleneck_tokens must be >= 1, got {self.bottleneck_tokens}")
        _require(self.rank >= 1, f"model.rank must be >= 1, got {self.rank}")

    def context_without(self, gone: Collection[str], v1_reads: Collection[str]) -> Flat:
        """Changes (flat keys) that take the modalities `gone` out of the context; none where it does not know them."""
        lost = {*gone, V1} if set(gone) & set(v1_reads) else set(gone)
        if self.context == "none" or (self.context == "v1" and V1 not in lost):
            return {}
        left = tuple(r for r in self.context_reads if r not in lost)
        if self.context == "v1" or not left:
            return {"model.context": "none"}
        return {"model.context_reads": left}

    @property
    def of_dataset(self) -> tuple[str, ...]:
        """All modalities of the dataset, in its order; `modalities` are those of them that the ranker has."""
        return tuple(name for name, _ in self.tokens_each)

    def tokens(self, modality: str) -> int:
        """How many tokens `modality` is projected to."""
        return dict(self.tokens_each)[modality]


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """total = ranking + Σ weight · term. A weight of 0 builds and computes nothing.

    A name that begins with `suspect_` has the suspect's own in the flat form: `loss.visual_importance`.
    """

    ranking: Literal["listnet", "lambdarank", "approx_ndcg", "neural_ndcg", "ranknet"] = "listnet"
    temperature: float = 1.0
    """Of the label softmax in ListNet, of the sigmoid or the sort in the smooth nDCG losses."""
    suspect_importance: float = 0.0
    """That ranking is worse without the suspect."""
    suspect_importance_form: Literal["reliance", "literal", "masking"] = "reliance"
    reliance_margin: float = 0.1
    """In units of the ranking loss: how much worse a shuffled suspect should make it."""
    variance: float = 0.0
    """Hinge max(0, 1 - std) on the projected modalities, against collapse."""
    attention_entropy: float = 0.0
    attention_entropy_form: Literal["hinge", "literal"] = "hinge"
    attention_entropy_target: float = 0.95
    """τ of the hinge, a fraction of ln M."""
    unimodal: float = 0.0
    reconstruction: float = 0.0
    """That the suspect's features can be told from the fused vector."""
    reconstruction_form: Literal["mse", "cosine"] = "mse"
    """Of the standardised features; thumbnails, where they show the suspect, add 1 - SSIM."""
    contrastive: float = 0.0
    """That the suspect and its partner (`Recipe.partner`) tell items apart alike."""
    adversarial: float = 0.0
    adversarial_form: Literal["reversal", "literal"] = "reversal"
    orthogonality: float = 0.0
    """Weight of the private-against-shared orthogonality, used with the adversarial term."""
    decorrelation: float = 0.0
    decorrelation_target: float = 0.9
    """Mean within-query rank correlation with V1 below which the hinge is silent."""

    def __post_init__(self) -> None:
        for name in LOSS_TERMS:
            weight = getattr(self, name)
            _require(weight >= 0.0, f"loss.{name} is a weight and must be >= 0, got {weight}")
        _require(self.temperature > 0.0, f"loss.temperature must be > 0, got {self.temperature}")
        for name in ("attention_entropy_target", "decorrelation_target"):
            value = getattr(self, name)
            _require(0.0 <= value <= 1.0, f"loss.{name} must be in [0, 1], got {value}")
        _require(
            self.orthogonality == 0.0 or self.adversarial > 0.0,
            "loss.orthogonality keeps the adversarial term's private parts apart: set loss.adversarial too",
        )


LOSS_TERMS: tuple[str, ...] = (
    "suspect_importance",
    "variance",
    "attention_entropy",
    "unimodal",
    "reconstruction",
    "contrastive",
    "adversarial",
    "orthogonality",
    "decorrelation",
)


NEED_SUSPECT: tuple[str, ...] = ("loss.suspect_importance", "loss.reconstruction")
"""Settings that cannot apply without the suspect."""
NEED_PARTNER: tuple[str, ...] = ("loss.contrastive",)
"""Settings that cannot apply without the suspect and its partner."""
NEEDED_EVIDENCE: dict[str, str] = {
    "loss.variance": "projected",
    "loss.unimodal": "projected",
    "loss.contrastive": "projected",
    "loss.orthogonality": "projected",
    "loss.reconstruction": "fused",
}
"""Flat key of a term -> what the ranker must return beside its scores (see `models.own`); ours returns all of it."""
NEED_SEVERAL = ("loss.attention_entropy", "loss.adversarial", "loss.orthogonality", "train.gradient_modulation")
"""Settings that cannot apply to one modality alone, whichever it is."""
POINTLESS_ALONE = ("loss.unimodal", "train.modality_dropout")
"""Settings that can, and tell one modality alone nothing."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long and how fast."""

    epochs: int = 12
    patience: int = 4
    """Epochs without a better validation nDCG before the training ends by itself."""
    batch_queries: int = 32
    """Of one step, over all workers together: the batch does not change with their number."""
    slice_queries: int = 0
    """Queries that pass through a worker's ranker at once, where memory is short; 0: its whole share of the batch.

    The same gradient for one more forward pass.
    """
    learning_rate: float = 3e-3
    suspect_learning_rate_scale: float = 1.0
    """Of the suspect's encoder: `train.visual_learning_rate_scale` in the flat form, where that is the suspect."""
    weight_decay: float = 1e-3
    warmup: float = 0.1
    """Fraction of all steps over which the rate rises, before its cosine descent."""
    gradient_clip: float = 1.0
    modality_dropout: float = 0.0
    """Probability that a query's modality is replaced by its learned null token."""
    gradient_modulation: float = 0.0
    """OGM-style: strength of the slow-down of the modality that is ahead; 0 is off."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 autocast on a GPU that has it, float32 elsewhere."""
    members: int = 1
    """Trainings of this recipe that make the ranker which is released: the mean of their within-query standardised
    scores. One training makes one member."""
    start: Literal["fresh", "weights"] = "fresh"
    """What a training begins with: fresh weights, or those that a run is given (`--weights`), as far as they fit."""

    def __post_init__(self) -> None:
        for name in ("epochs", "patience", "batch_queries", "members"):
            _require(getattr(self, name) >= 1, f"train.{name} must be >= 1, got {getattr(self, name)}")
        for name in ("learning_rate", "suspect_learning_rate_scale", "gradient_clip"):
            _require(getattr(self, name) > 0.0, f"train.{name} must be > 0, got {getattr(self, name)}")
        _require(self.slice_queries >= 0, f"train.slice_queries must be >= 0, got {self.slice_queries}")
        _require(self.weight_decay >= 0.0, f"train.weight_decay must be >= 0, got {self.weight_decay}")
        _require(0.0 <= self.warmup < 1.0, f"train.warmup must be in [0, 1), got {self.warmup}")
        _require(
            0.0 <= self.modality_dropout < 1.0,
            f"train.modality_dropout must be in [0, 1), got {self.modality_dropout}",
        )
        _require(
            self.gradient_modulation >= 0.0,
            f"train.gradient_modulation must be >= 0, got {self.gradient_modulation}",
        )


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides one training but its data and its seed."""

    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    own: tuple[tuple[str, Scalar], ...] = ()
    """Settings of a module of one's own (`model.variant`), by name: flat keys `own.NAME`."""
    suspect: str = SUSPECT
    """The modality that V2 is suspected not to use; flat keys have its name in them."""

    def __post_init__(self) -> None:
        require_suspect(self.suspect, self.model.of_dataset)

    @property
    def partner(self) -> str:
        """The first other modality of the dataset, which V2 is taken to lean on."""
        return partner_of(self.suspect, self.model.of_dataset)

    def key(self, neutral: str) -> str:
        """The flat key of `loss.suspect_importance`, `model.partner_tokens` and their kind; others stay as they are."""
        part, _, name = neutral.partition(".")
        for role, modality in (("suspect_", self.suspect), ("partner_", self.partner)):
            if name.startswith(role):
                return f"{part}.{modality}_{name.removeprefix(role)}"
        return neutral

    def needed_modalities(self) -> dict[str, tuple[str, ...]]:
        """Flat key of a setting -> the modalities without which it cannot apply."""
        return {self.key(key): (self.suspect,) for key in NEED_SUSPECT} | {
            self.key(key): (self.suspect, self.partner) for key in NEED_PARTNER
        }

    def flat(self) -> Flat:
        """`{"model.width": 32, ...}`: JSON-ready (tuples as `+`-joined text), every key present."""
        out: Flat = {f"own.{name}": value for name, value in self.own}
        for part in PARTS:
            for name, value in vars(getattr(self, part)).items():
                if name == TOKENS:
                    out |= {f"model.{modality}_tokens": count for modality, count in value}
                else:
                    out[self.key(f"{part}.{name}")] = "+".join(value) if isinstance(value, tuple) else value
        return out

    def updated(self, changes: Mapping[str, Any]) -> Recipe:
        """A recipe with some flat keys replaced; text is read as the field's type.

        Raises ValueError for an unknown key (naming near ones) or a value that does not fit its type.
        """
        fields = {self.key(f"{part}.{name}"): (part, name) for part in PARTS for name in _field_types(part)}
        del fields[f"model.{TOKENS}"]
        counts = {f"model.{m}_tokens": m for m in self.model.of_dataset}
        parts: dict[str, dict[str, Any]] = {"model": {}, "loss": {}, "train": {}}
        tokens, own = dict(self.model.tokens_each), dict(self.own)
        for key, value in changes.items():
            if key.startswith("own.") and (name := key.removeprefix("own.")) in own:
                own[name] = _read(key, value, type(own[name]))
            elif key in counts:
                tokens[counts[key]] = _read(key, value, int)
            elif key in fields:
                part, name = fields[key]
                parts[part][name] = _read(key, value, _field_types(part)[name])
            else:
                raise ValueError(f"unknown configuration key {key!r}; {near(key, list(self.flat()))}")
        parts["model"][TOKENS] = tuple(tokens.items())
        new = {part: dataclasses.replace(getattr(self, part), **values) for part, values in parts.items()}
        return dataclasses.replace(self, **new, own=tuple(sorted(own.items())))

    def with_own(self, settings: Mapping[str, Scalar]) -> Recipe:
        """The same recipe with these settings of a module of one's own, and no others."""
        return dataclasses.replace(self, own=tuple(sorted(settings.items())))

    def for_modalities(self, modalities: tuple[str, ...], suspect: str) -> Recipe:
        """The same recipe for a dataset of these modalities, with this suspect.

        Suspect and partner keep the tokens that they had, other modalities have one each. The ranker has all of them,
        and a context reads those of them that V1 is taken to read. Raises ValueError for names that cannot be.
        """
        if (modalities, suspect) == (self.model.of_dataset, self.suspect):
            return self
        require_modalities(modalities)
        require_suspect(suspect, modalities)
        tokens = dict.fromkeys(modalities, 1) | {suspect: self.model.tokens(self.suspect)}
        tokens[partner_of(suspect, modalities)] = self.model.tokens(self.partner)
        model = dataclasses.replace(
            self.model,
            tokens_each=tuple(tokens.items()),
            modalities=modalities,
            context_reads=(V1, *read_by_v1(modalities)),
        )
        return dataclasses.replace(self, model=model, suspect=suspect)

    def restricted(self, modalities: tuple[str, ...], v1_reads: tuple[str, ...] = V1_READS) -> Recipe:
        """The same recipe built with `modalities` alone: terms that need one that is gone, or several, are off.

        What V1 reads (`v1_reads`) takes V1's score along when it goes, raw and in a tuned V1's trees: V1 would hand its
        content back. The trees lose the modality itself, too; where they have nothing left to read, the context goes.
        """
        off = [key for key, needed in self.needed_modalities().items() if not set(needed) <= set(modalities)]
        if len(modalities) == 1:
            off += [*NEED_SEVERAL, *POINTLESS_ALONE]
        gone = set(self.model.modalities) - set(modalities)
        changes = {"model.modalities": modalities} | dict.fromkeys(off, 0.0)
        return self.updated(changes | self.model.context_without(gone, v1_reads))

    @staticmethod
    def from_flat(flat: Mapping[str, Any]) -> Recipe:
        """The recipe of a flat form; keys left out keep their defaults.

        Its keys name the dataset's modalities and the suspect, where it has them all.
        """
        named = tuple(key[6:-7] for key in flat if key.startswith("model.") and key.endswith("_tokens"))
        named = tuple(name for name in named if name != "bottleneck")
        suspects = [key[5:-11] for key in flat if key.startswith("loss.") and key.endswith("_importance")]
        own = {key.removeprefix("own."): value for key, value in flat.items() if key.startswith("own.")}
        plain = Recipe().with_own(own)
        if "model.modalities" not in flat or not suspects or suspects[0] not in named:
            return plain.updated(flat)
        return plain.for_modalities(named, suspects[0]).updated(flat)


PARTS: dict[str, type] = {"model": ModelConfig, "loss": LossConfig, "train": TrainConfig}
TOKENS = "tokens_each"


@lru_cache(maxsize=len(PARTS))
def _field_types(part: str) -> dict[str, Any]:
    return typing.get_type_hints(PARTS[part])


def near(key: str, known: list[str]) -> str:
    """What an unknown key may have meant: close ones, or all that are known."""
    import difflib

    close = difflib.get_close_matches(key, known, n=3)
    return f"did you mean {' or '.join(close)}?" if close else f"known keys: {', '.join(known)}"


def _read(key: str, value: Any, kind: Any) -> Any:
    """`value` as `kind`, from text where need be; ValueError says which key and what was expected."""
    origin = typing.get_origin(kind)
    if origin is Literal:
        allowed = typing.get_args(kind)
        _require(value in allowed, f"{key} must be one of {', '.join(allowed)}, got {value!r}")
        return value
    if origin is tuple:
        return tuple(filter(None, value.split("+"))) if isinstance(value, str) else tuple(value)
    if kind is bool:
        words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        if isinstance(value, bool):
            return value
        _require(str(value).lower() in words, f"{key} must be true or false, got {value!r}")
        return words[str(value).lower()]
    assert kind in (int, float, str), kind
    try:
        number = kind(value)
    except (TypeError, ValueError):
        raise ValueError(f"{key} must be a {kind.__name__}, got {value!r}") from None
    _require(kind is not int or float(value) == number, f"{key} must be a whole number, got {value!r}")
    _require(kind is not float or number == number, f"{key} must not be NaN")
    return number
