"""Stochastic gradient descent with momentum: the update of ``torch.optim.SGD(..., fused=True)``, bit for bit.

torch's own class imports its compiler (torch._dynamo, sympy) to be made at all: 1.4 s and 75 MB for every worker, more than
a small network's trial costs. Here the kernel is called directly.
"""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor


class SGD:
    """Steps all parameters of ``groups``, dicts of ``params`` and ``weight_decay`` (L2, added to the gradient).

    ``state``: {parameter: {"momentum_buffer": tensor}} of those that have taken a step. A parameter without a gradient is
    left alone.
    """

    def __init__(self, groups: list[dict], *, momentum: float) -> None:
        """``momentum`` above 0 is Nesterov's (Sutskever et al. 2013)."""
        self.groups = [{"params": alike, "weight_decay": group.get("weight_decay", 0.0)}
                       for group in groups for alike in _by_type(list(group["params"]))]
        self.momentum = momentum
        self.state: dict[Tensor, dict[str, Tensor]] = defaultdict(dict)

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """One update from the gradients that are there."""
        for group in self.groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                torch._fused_sgd_(
                    params, [p.grad for p in params], [self._buffer(p) for p in params] if self.momentum else [],
                    weight_decay=group["weight_decay"], momentum=self.momentum, lr=learning_rate, dampening=0.0,
                    nesterov=self.momentum > 0, maximize=False, is_first_step=False,
                )

    def zero_grad(self) -> None:
        """Frees all gradients."""
        for group in self.groups:
            for parameter in group["params"]:
                parameter.grad = None

    def _buffer(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)  # in the layout of the parameter, as the kernel takes it
        return state["momentum_buffer"]


def _by_type(parameters: list[Tensor]) -> list[list[Tensor]]:
    """Parted by device and dtype, as the kernel takes them."""
    kinds = dict.fromkeys((p.device, p.dtype) for p in parameters)
    return [[p for p in parameters if (p.device, p.dtype) == kind] for kind in kinds]
