"""A team's PyTorch ranker: one linear layer a modality, a small head, V1's score among its inputs."""

import numpy as np
import torch
from torch import nn

from outside.tables import MODALITIES, Pairs, score_table


class TwoLayers(nn.Module):
    """Scores documents, flat: a tensor `[N, D]` a modality and V1's score `[N, 1]` -> `[N]`."""

    def __init__(self, widths):
        super().__init__()
        self.encoders = nn.ModuleList(nn.Linear(width, 16) for width in widths)
        self.head = nn.Sequential(nn.Linear(16 * len(widths) + 1, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, visual, text, metadata, v1):
        parts = [encode(x).tanh() for encode, x in zip(self.encoders, (visual, text, metadata), strict=True)]
        return self.head(torch.cat([*parts, v1], dim=-1)).squeeze(-1)


def inputs(pairs, blank=None):
    """The model's inputs on some pairs."""
    features = [torch.from_numpy(pairs.features[m] * (m != blank)).float() for m in MODALITIES]
    return [*features, torch.from_numpy(pairs.v1)]


def train(folder, epochs=6, seed=0):
    """The model, by a softmax loss over each query's list."""
    torch.manual_seed(seed)
    pairs = Pairs(folder, ["train"])
    given, labels = inputs(pairs), torch.from_numpy(pairs.labels).float()
    model = TwoLayers([x.shape[1] for x in given[:3]])
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    lists = np.split(np.arange(len(labels)), np.cumsum(pairs.sizes)[:-1])
    order = np.random.default_rng(seed)
    for _ in range(epochs):
        for chosen in np.array_split(order.permutation(len(lists)), max(1, len(lists) // 16)):
            loss = torch.zeros(())
            rows = np.concatenate([lists[i] for i in chosen])
            found = model(*(x[rows] for x in given))
            start = 0
            for i in chosen:
                end = start + len(lists[i])
                gains = 2.0 ** labels[lists[i]] - 1.0
                loss = loss - (gains / gains.sum() * found[start:end].log_softmax(0)).sum()
                start = end
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return model.eval()


def scores(folder, model):
    """The table: scores, and scores with each modality blanked."""
    pairs = Pairs(folder, ["validation", "test"])
    with torch.no_grad():
        blanked = {f"v2_score.without_{m}": model(*inputs(pairs, m)).numpy() for m in MODALITIES}
        return score_table(pairs, model(*inputs(pairs)).numpy(), **blanked)


def to_onnx(folder, model, path):
    """Four inputs by name, a dynamic number of documents."""
    example = tuple(x[:6] for x in inputs(Pairs(folder, ["validation"])))
    names = [*MODALITIES, "v1"]
    shapes = tuple({0: torch.export.Dim("documents")} for _ in names)
    torch.onnx.export(
        model, example, path, input_names=names, output_names=["scores"], dynamic_shapes=shapes, dynamo=True,
        external_data=False, verbose=False,
    )  # fmt: skip
