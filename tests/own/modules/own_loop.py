import torch
from two_towers import TwoTowers

from fusion_models.own import TrainConfig, Training


class InItsOwnWay(TwoTowers):
    def make_optimiser(self, train: TrainConfig):
        return torch.optim.SGD(self.parameters(), lr=train.learning_rate, momentum=0.9)

    def train_epochs(self, training: Training):
        for _ in range(training.epoch, training.train.epochs):
            losses = []
            for inputs, labels, _weight in training.batches():
                logits = self(inputs).scores.masked_fill(~inputs.valid, -1e9)
                loss = -(labels * logits.log_softmax(dim=1)).sum(dim=1).mean()
                training.optimiser.zero_grad()
                loss.backward()
                training.optimiser.step()
                losses.append(loss.item())
            yield {"loss": sum(losses) / len(losses)}
