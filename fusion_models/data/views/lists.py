"""What a view takes over from the dataset below it: that one's lists and splits, which may differ from the tables'."""

from __future__ import annotations

from fusion_models.data.dataset import RankingDataset


def take_lists(view: RankingDataset, base: RankingDataset) -> None:
    """Give `view`, opened on the tables, the splits and lists of `base`, which may have fewer documents than these.

    What rankers are measured by is that of `base`, too.
    """
    view.splits, view.split, view.metric = base.splits, base.split, base.metric
    view.judged_item, view.candidates, view.offset = base.judged_item, base.candidates, base.offset
    view.labels, view.v1, view.v1_input = base.labels, base.v1, base.v1_input
    if base.pair_features is not None:
        view._pair_features = base.pair_features
