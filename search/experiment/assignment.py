"""Who sees what: deterministic buckets from a hashed unit, with a salt an experiment and a ramp.

A unit's bucket is a number in [0, 1) that its id and the salt decide, on every machine and for ever. Treatment is the
buckets below the share, so a larger share keeps every unit that had V2: nobody is moved out of it by a ramp. Another
salt shuffles everybody anew: two experiments with their own salts are independent of each other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from search.experiment.estimate import Floats


def buckets(unit_ids: Sequence[str], salt: str) -> Floats:
    """Each unit's bucket in [0, 1): `[N]`, from 53 bits of BLAKE2b keyed by nothing but the salt and the id.

    Raises ValueError for an empty salt: experiments without one would share their buckets.
    """
    if not salt:
        raise ValueError("the salt must not be empty: name the experiment, so that it is independent of others")
    prefix = hashlib.blake2b(salt.encode(), digest_size=16).digest()
    return np.array([_bucket(prefix, unit) for unit in unit_ids], dtype=np.float64)


def in_treatment(unit_ids: Sequence[str], salt: str, share: float) -> npt.NDArray[np.bool_]:
    """Which units are under treatment at a `share` of the traffic in [0, 1]: `[N]`."""
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"the share must be a fraction in [0, 1], got {share}")
    return buckets(unit_ids, salt) < share


def _bucket(prefix: bytes, unit: str) -> float:
    digest = hashlib.blake2b(unit.encode(), digest_size=8, key=prefix).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53
