"""torch's AdamW, for training that is never compiled: it starts without torch's compiler.

`torch.optim` wraps its methods so that torch.compile leaves them alone, and so imports `torch._dynamo` when the
first optimiser is made: two seconds of one CPU, in every process that trains. Behind the wrappers the methods are the
same, and `functools.wraps` leaves them in reach.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def _unwrapped(method: Callable[..., Any]) -> Callable[..., Any]:
    wrapped: Callable[..., Any] = getattr(method, "__wrapped__", method)
    return wrapped


class EagerAdamW(torch.optim.AdamW):
    """`torch.optim.AdamW`, number for number; not for use under torch.compile."""

    add_param_group = _unwrapped(torch.optim.AdamW.add_param_group)
    zero_grad = _unwrapped(torch.optim.AdamW.zero_grad)
    state_dict = _unwrapped(torch.optim.AdamW.state_dict)
    load_state_dict = _unwrapped(torch.optim.AdamW.load_state_dict)
    step = torch.no_grad()(_unwrapped(torch.optim.AdamW.step))
