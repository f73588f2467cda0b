"""Whether a result may be believed: isolation of the splits, copies, leaks, broken labels, gains of one subdomain.

Every check gives one line of one table (`check`). `isolation` asks what test shares with training, `copies` for
near-copied queries (`alike_queries`: which say the same), `leaks` and `leak_probes` (with `v1_leaks`) for labels and
V1's score in the columns, `order` for the order of the tables, `gains` for one subdomain with all of the gain, `logged`
for labels logged under V1. They read `documents` by `readouts`, with products of `second_order`; `label_readings`
scores them. What fails and what is only reported: docs/decisions/016. May use data and metrics; trains no ranker.
"""

from fusion_models.integrity.check import (
    ISOLATED,
    MOST_ABOVE_CHANCE,
    Check,
    CheckStatus,
    chance_check,
    check,
    unmeasured,
)
from fusion_models.integrity.copies import copies_check
from fusion_models.integrity.gains import subdomain_check
from fusion_models.integrity.isolation import isolation_checks, separability_checks
from fusion_models.integrity.leak_probes import leak_probe_checks
from fusion_models.integrity.leaks import leak_check
from fusion_models.integrity.logged import logged_check
from fusion_models.integrity.order import order_check

__all__ = [
    "ISOLATED",
    "MOST_ABOVE_CHANCE",
    "Check",
    "CheckStatus",
    "chance_check",
    "check",
    "copies_check",
    "isolation_checks",
    "leak_check",
    "leak_probe_checks",
    "logged_check",
    "order_check",
    "separability_checks",
    "subdomain_check",
    "unmeasured",
]
