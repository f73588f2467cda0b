"""Measurements: pure functions, tensors or arrays in and numbers out.

`ndcg`, `agreement`, `masking`, `attention`, `interaction`, `ssim` and their like measure a ranker; and
`intervals` says how sure a number is. No model, no dataset.
"""

from fusion_models.metrics.agreement import (
    Agreement,
    agreement,
    centred_correlation,
    centred_moments,
    correlation_of,
    kendall_tau_b,
    mean_rank_change,
    pooled_correlation,
    rank_biased_overlap,
    spearman,
    top1_stability,
)
from fusion_models.metrics.attention import (
    balance,
    gradient_times_input_shares,
    layer_shares,
    max_share,
    mean_shares,
    query_shares,
)
from fusion_models.metrics.duplicates import near_duplicates, rounded
from fusion_models.metrics.fusion import FusionGain, WeightedSum, fusion_gain, standardise, tune_weighted_sum
from fusion_models.metrics.integrity import (
    Overlap,
    Suspicion,
    overlap,
    permute_labels,
    suspicious_features,
)
from fusion_models.metrics.interaction import additive_projection, interaction_gain
from fusion_models.metrics.intervals.ensembles import (
    Arm,
    arm,
    arm_difference,
    arm_of,
    ensemble_scores,
    ndcg_of,
    recipe_interval,
    standardised,
)
from fusion_models.metrics.intervals.interval import Interval, SeedPart, Variance
from fusion_models.metrics.intervals.p_values import two_sided_p
from fusion_models.metrics.intervals.planning import detectable, look_level, probability_settled
from fusion_models.metrics.intervals.query_intervals import (
    Clustering,
    crossed,
    query_correlation_interval,
    query_interval,
    query_ratio_interval,
)
from fusion_models.metrics.intervals.resampling import holm, paired_bootstrap, sign_flip_p
from fusion_models.metrics.intervals.seed_intervals import (
    Needed,
    more_needed,
    seed_correlation_interval,
    seed_interval,
    seed_ratio_interval,
)
from fusion_models.metrics.latency import (
    Latency,
    block_quantile_interval,
    open_loop_milliseconds,
    poisson_arrivals,
    quantile_interval,
    summarise_latency,
)
from fusion_models.metrics.masking import BLANKS, Blank, blank, keep_only, masking_drop, shapley, subsets
from fusion_models.metrics.ndcg import MeanNdcg, chance_ndcg, mean_ndcg, ndcg
from fusion_models.metrics.ranking import average_ranks, first_ranks
from fusion_models.metrics.representation import effective_rank, linear_cka
from fusion_models.metrics.separability import auc, split_auc
from fusion_models.metrics.ssim import blank_pictures, mean_image_ssim, nearest_neighbour_ssim, ssim

__all__ = [
    "BLANKS",
    "Agreement",
    "Arm",
    "Blank",
    "Clustering",
    "FusionGain",
    "Interval",
    "Latency",
    "MeanNdcg",
    "Needed",
    "Overlap",
    "SeedPart",
    "Suspicion",
    "Variance",
    "WeightedSum",
    "additive_projection",
    "agreement",
    "arm",
    "arm_difference",
    "arm_of",
    "auc",
    "average_ranks",
    "balance",
    "blank",
    "blank_pictures",
    "block_quantile_interval",
    "centred_correlation",
    "centred_moments",
    "chance_ndcg",
    "correlation_of",
    "crossed",
    "detectable",
    "effective_rank",
    "ensemble_scores",
    "first_ranks",
    "fusion_gain",
    "gradient_times_input_shares",
    "holm",
    "interaction_gain",
    "keep_only",
    "kendall_tau_b",
    "layer_shares",
    "linear_cka",
    "look_level",
    "masking_drop",
    "max_share",
    "mean_image_ssim",
    "mean_ndcg",
    "mean_rank_change",
    "mean_shares",
    "more_needed",
    "ndcg",
    "ndcg_of",
    "near_duplicates",
    "nearest_neighbour_ssim",
    "open_loop_milliseconds",
    "overlap",
    "paired_bootstrap",
    "permute_labels",
    "poisson_arrivals",
    "pooled_correlation",
    "probability_settled",
    "quantile_interval",
    "query_correlation_interval",
    "query_interval",
    "query_ratio_interval",
    "query_shares",
    "rank_biased_overlap",
    "recipe_interval",
    "rounded",
    "seed_correlation_interval",
    "seed_interval",
    "seed_ratio_interval",
    "shapley",
    "sign_flip_p",
    "spearman",
    "split_auc",
    "ssim",
    "standardise",
    "standardised",
    "subsets",
    "summarise_latency",
    "suspicious_features",
    "top1_stability",
    "tune_weighted_sum",
    "two_sided_p",
]
