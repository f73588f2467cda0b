"""What a run is asked to do: the command line as plain data."""

from __future__ import annotations

import importlib.util
import math
import re
from dataclasses import dataclass
from typing import Any, Literal

from fusion_models.config.annotated import settle_kinds
from fusion_models.data.sources import declared_modalities
from fusion_models.modalities import SUSPECT, require_suspect
from fusion_models.models.own import own_model
from search.options.asked import FILE_WANTED, as_asked
from search.run_store.facts import read_facts
from search.run_store.folder import require_name
from spaces import ROADMAP_STEPS, Phase, PhaseFile, for_dataset, from_weights, read_phase_file, with_own_model

MOST_SEED = 2_000_000_000
"""Trainings count up from the seed, and trees take no seed of more than 31 bits."""
SMALLEST_SHARE = 0.0001
"""Of a GPU, as finely as Ray counts."""
FIRST_STEP = 5
"""Fresh trainings of every recipe that decides, at the least, where --confirm-seeds asks for no number."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Search one phase of the roadmap: which fusion recipe, if any, makes the ranker use every modality."""

    phase: Literal["phase1", "phase2", "phase3", "phase4", "roadmap"]
    """One phase, or roadmap: all of them in order, each from what the one before has found."""
    phase_file: str | None = None
    """TOML file that extends the phase: own thresholds, objectives, ranges, trials (see docs/phase-files.md)."""
    data: str = "clipart"
    """clipart (bundled), planted or planted:PRESET, or the folder (path or URI) of a dataset's three tables."""
    model: str | None = None
    """Your own ranker or fusion in place of this project's, package.module:Class (see docs/your-own-ranker.md)."""
    model_space: Literal["both", "own"] = "both"
    """What is searched of it: its SPACE together with losses and training (both), or its SPACE alone (own)."""
    suspect: str | None = None
    """The modality that V2 is suspected not to use, by its name in the data; visual unless given."""
    weights: str | None = None
    """File of weights (safetensors, or a state dict) that trainings start from: what is in production."""
    trials: int | None = None
    """Trials of the search in all, those of an interrupted run included; the phase's own (about 24) unless given."""
    epochs: int | None = None
    """Epochs of a training at the most; the base recipe's unless given."""
    time_budget: str | None = None
    """About how long it may take, such as 90s, 30m or 2h: trims the search, then the ablation, never the refits."""
    seed: int = 0
    """Of the sampler and of the trainings."""
    sampler: Literal["tpe", "nsga2", "nsga3", "gp", "random"] = "tpe"
    """How the search proposes trials."""
    scheduler: Literal["moasha", "none"] = "moasha"
    """moasha stops trials that fall behind (multi-objective successive halving); none trains every trial to its end."""
    confirm_seeds: int | None = None
    """Fresh trainings of every recipe that decides; unless given, what a GO needs: 5, and more where validation leaves
    a gate open. With fewer than 5 nothing is GO. 0 skips confirmation, and no gate is measured."""
    max_seeds: int | None = None
    """Most fresh trainings of a recipe, 5 or more, where a gate stays open; unless given, 12 within --time-budget, else
    5."""
    ablation: bool = True
    """Leave out the trainings after the verdict that show what each component does (phase 4 needs them). Without this
    flag they are made."""
    workers_per_trial: int = 1
    """Processes that train one ranker together (DDP): each takes its share of every batch, the result is the same."""
    cpus_per_worker: int = 1
    """Processors a worker uses; as many trainings run at once as the machine or cluster has room for."""
    gpus_per_worker: float = 0.0
    """GPUs (or a share of one) a worker uses."""
    stack: str = "auto"
    """Trainings of one structure that a worker trains in one set of kernels: a number, or auto (1 on a CPU)."""
    max_concurrent: int | None = None
    """Trainings at once at the most."""
    epoch_limit: str | None = None
    """An epoch that takes longer, such as 30m, is hung, and its workers are replaced; else 50 times the plan's."""
    address: str | None = None
    """auto, or HOST:PORT: the Ray cluster to run on, of which this machine is one; this machine alone unless given."""
    results: str = "results"
    """Folder (path or URI) that holds the run folders."""
    name: str | None = None
    """Name of the run folder; the phase unless given."""
    resume: bool = False
    """Go on with an interrupted run."""
    fresh: bool = False
    """Delete what is in the run folder and start over."""
    settle: bool = False
    """Go on with a finished run's finalist: more trainings where its verdict hangs, and one more counted look."""
    extend: bool = False
    """Go on with a finished run's search: up to --trials in all, then a new finalist and one more counted look."""
    warm_from: str | None = None
    """Another run (path or URI): its front is tried first, moved into this phase's space."""
    facts: str | None = None
    """TOML file of business facts (see docs/facts.example.toml)."""
    track: Literal["mlflow", "wandb"] | None = None
    """Write the run to an experiment tracker as well (needs the extra of that name); its own environment says where."""
    set: tuple[str, ...] = ()
    """KEY=VALUE: fix a key of the base recipe, such as model.width=64; a fixed key is not searched."""

    def __post_init__(self) -> None:
        as_asked(self)
        settle_kinds(self, {"facts": FILE_WANTED, "phase_file": FILE_WANTED})
        require_seed(self.seed)
        self._require_gpus()
        for name in ("trials", "epochs", "workers_per_trial", "cpus_per_worker", "max_concurrent", "max_seeds"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
        if not re.fullmatch(r"auto|[1-9]\d*", self.stack):
            raise ValueError(f"--stack must be auto or a number of at least 1, got {self.stack!r}")
        if self.stack not in ("auto", "1") and self.workers_per_trial > 1:
            raise ValueError(
                f"--stack {self.stack} puts several trainings into one worker and --workers-per-trial "
                f"{self.workers_per_trial} one training into several: give one of them"
            )
        if self.confirm_seeds is not None and (self.confirm_seeds < 0 or self.confirm_seeds == 1):
            raise ValueError(f"--confirm-seeds must be 0 (no confirmation) or at least 2, got {self.confirm_seeds}")
        if self.confirm_seeds is None and self.max_seeds is not None and self.max_seeds < FIRST_STEP:
            raise ValueError(
                f"--max-seeds {self.max_seeds} is fewer than the {FIRST_STEP} trainings that every recipe gets before "
                f"more are asked for: --confirm-seeds {max(2, self.max_seeds)} gives so few (and then nothing is GO)"
            )
        if (self.address or "").startswith("ray://"):
            raise ValueError(
                f"--address {self.address} (Ray Client) cannot run a search, whose journal must lie beside its driver: "
                "start the run on the cluster itself (ray exec cluster.yaml 'python -m search.run … --address auto')"
            )
        require_name(self.name)
        self._require_one_way_on()
        if self.track is not None and not can_track(self.track):
            raise ValueError(f"--track {self.track} needs its extra: pip install 'fusion-search[{self.track}]'")
        self.budget_seconds, self.epoch_limit_seconds  # noqa: B018  (read, so that a bad one fails now)
        self.changes  # noqa: B018
        read_facts(self.facts)
        self._require_model()
        self._require_phase_of_file()

    def _require_gpus(self) -> None:
        share = self.gpus_per_worker
        whole = share >= 1 and math.isfinite(share) and share == int(share)
        if share != 0 and not SMALLEST_SHARE <= share < 1 and not whole:
            raise ValueError(f"--gpus-per-worker must be 0, a share such as 0.25, or a whole number, got {share:g}")

    def _require_model(self) -> None:
        if ":" in str(self.changes.get("model.variant", "")):
            raise ValueError("--set model.variant names one of this project's: give a module of your own as --model")
        if self.model is None:
            if self.model_space == "own":
                raise ValueError("--model-space own searches the SPACE of a module of your own: name it by --model")
            return
        own = own_model(self.model)
        if own.has_loop and self.workers_per_trial > 1:
            raise ValueError(
                f"{self.model} has a training loop of its own, which one process runs: leave out --workers-per-trial"
            )

    def _require_one_way_on(self) -> None:
        if self.resume and self.fresh:
            raise ValueError("--resume goes on with a run and --fresh deletes it: give one of them")
        further = [f"--{name}" for name in ("settle", "extend") if getattr(self, name)]
        if len(further) > 1:
            raise ValueError("--settle keeps the finalist and --extend chooses another: give one of them")
        for flag in further:
            if self.resume or self.fresh:
                raise ValueError(f"{flag} goes on with a finished run's verdict: leave out --resume and --fresh")
            if self.phase in ("phase4", "roadmap"):
                raise ValueError(f"{flag} goes on with the verdict of one of phase1 to phase3, not of {self.phase}")
        if self.settle and self.confirm_seeds is not None:
            raise ValueError("--settle goes by --max-seeds, trainings of an arm at the most: leave out --confirm-seeds")
        if self.extend and self.trials is None:
            raise ValueError("--extend needs --trials: how many trials the study is to have in all")
        if self.extend and self.confirm_seeds == 0:
            raise ValueError("--extend ends in a verdict, which --confirm-seeds 0 leaves out")
        if self.warm_from is not None and self.phase == "phase4":
            raise ValueError("--warm-from is for a phase that searches, and phase4 searches nothing")

    def _require_phase_of_file(self) -> None:
        file = self._file
        if file is not None and self.phase not in (file.extends, "roadmap"):
            raise ValueError(
                f"--phase-file {file.path} extends {file.extends}, and the run is one of {self.phase}: ask for "
                f"{file.extends} (or the roadmap, in which the file stands for that phase)"
            )

    @property
    def _file(self) -> PhaseFile | None:
        if self.phase_file is None:
            return None
        alone = self.model_space == "own"
        return read_phase_file(self.phase_file, *self.asked_of(), model=self.model, alone=alone)

    def asked_of(self, suspect: str = SUSPECT) -> tuple[tuple[str, ...], str]:
        """The dataset's modalities and the suspect, `suspect` where none is asked for.

        Raises ValueError where the dataset lacks it.
        """
        modalities, asked = declared_modalities(self.data), self.suspect or suspect
        try:
            require_suspect(asked, modalities)
        except ValueError as error:
            raise ValueError(f"--suspect: {error}") from None
        return modalities, asked

    def phase_file_of(self, name: str) -> str | None:
        """The phase file where it extends the phase `name`: in a roadmap it stands for one of the phases alone."""
        return self.phase_file if self._file is not None and self._file.extends == name else None

    def to_phase(self, name: str | None = None) -> Phase:
        """The phase `name` (default: the one asked for), for the data and the suspect, as the phase file has it.

        Its base recipe is the one asked for.
        """
        name = name or self.phase
        file = self._file
        if file is not None and file.extends == name:
            return self._started(file.phase)
        return self.around(ROADMAP_STEPS[name])

    def around(self, phase: Phase) -> Phase:
        """A phase for the data and the suspect, around the model and the base recipe asked for."""
        phase = for_dataset(phase, *self.asked_of(phase.suspect))
        if self.model is not None:
            phase = with_own_model(phase, self.model, alone=self.model_space == "own")
        return self._started(phase)

    def _started(self, phase: Phase) -> Phase:
        """The phase from the weights and around the base recipe asked for."""
        if self.weights is not None:
            phase = from_weights(phase)
        return phase.with_base(self.changes)

    @property
    def budget_seconds(self) -> float | None:
        """`time_budget` in seconds."""
        return seconds("--time-budget", self.time_budget)

    @property
    def epoch_limit_seconds(self) -> float | None:
        """`epoch_limit` in seconds."""
        return seconds("--epoch-limit", self.epoch_limit)

    @property
    def changes(self) -> dict[str, Any]:
        """`set` as flat recipe keys, and `epochs` with them."""
        out: dict[str, Any] = {} if self.epochs is None else {"train.epochs": self.epochs}
        for entry in self.set:
            key, equals, value = entry.partition("=")
            if not equals or not key:
                raise ValueError(f"--set takes KEY=VALUE, such as model.width=64; got {entry!r}")
            out[key.strip()] = value.strip()
        return out


@dataclass(frozen=True, kw_only=True)
class CommandLine(RunOptions):
    """Search one phase of the roadmap: which fusion recipe, if any, makes the ranker use every modality.

    A V2 that you have is judged by `python -m search.run audit`, which has flags of its own (`audit --help`).
    """

    quiet: bool = False
    """Print errors alone."""
    json: bool = False
    """Print what the run came to as JSON when it ends, and nothing else."""


def can_track(tracker: str | None) -> bool:
    """Whether the extra of an experiment tracker is installed."""
    return tracker is not None and importlib.util.find_spec(tracker) is not None


def require_seed(seed: int) -> None:
    """Raise ValueError for a --seed that samplers and trainings do not take."""
    if not 0 <= seed <= MOST_SEED:
        raise ValueError(f"--seed must be a whole number from 0 to {MOST_SEED}, got {seed}")


def seconds(flag: str, text: str | None) -> float | None:
    """`90s`, `30m` or `2h` in seconds. Raises ValueError that names the flag."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h)", text.strip())
    if found is None:
        raise ValueError(f"{flag} must look like 90s, 30m or 2h, got {text!r}")
    length = float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]
    if not 0 < length < math.inf:
        raise ValueError(f"{flag} must be a time above 0, such as 90s, 30m or 2h, got {text!r}")
    return length
