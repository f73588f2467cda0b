"""The optimiser is torch's own AdamW, and does without torch's compiler."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from fusion_models.training.optimiser import EagerAdamW

TRAINS = """
import sys
from pathlib import Path
from fusion_models.data import open_dataset
from fusion_models.training import load, save, start, train
from spaces import PHASES

recipe = PHASES["phase1"].with_base({"train.epochs": 2}).base
data = open_dataset("planted:healthy")
state = start(recipe, data, seed=0)
next(train(state, data))
save(state, Path(sys.argv[1]) / "training")
next(train(load(Path(sys.argv[1]) / "training", recipe, data, seed=0), data))
print("torch._dynamo" in sys.modules)
"""


@pytest.mark.parametrize("fused", [True, False])
def test_steps_are_those_of_torch(fused: bool) -> None:
    def steps(kind: type[torch.optim.AdamW]) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        matrix = torch.nn.Parameter(torch.randn(7, 5, generator=generator))
        vector = torch.nn.Parameter(torch.randn(5, generator=generator))
        groups = [{"params": [matrix], "weight_decay": 0.1}, {"params": [vector], "weight_decay": 0.0}]
        optimiser = kind(groups, lr=1e-2, fused=fused)
        for _ in range(20):
            optimiser.zero_grad()
            (torch.randn(3, 7, generator=generator) @ matrix + vector).square().sum().backward()
            optimiser.step()
            again = kind(groups, lr=1e-2, fused=fused)
            again.load_state_dict(optimiser.state_dict())
            optimiser = again
        return [matrix.detach(), vector.detach()]

    for ours, theirs in zip(steps(EagerAdamW), steps(torch.optim.AdamW), strict=True):
        assert torch.equal(ours, theirs)


def test_training_and_resuming_leave_the_compiler_alone(tmp_path: object) -> None:
    done = subprocess.run([sys.executable, "-c", TRAINS, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "False"
