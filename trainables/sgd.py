"""Stochastic gradient descent with momentum: the update of ``torch.optim.SGD(..., fused=True)``, to the last bit's rounding.

torch's own class imports its compiler (torch._dynamo, sympy) to be made at all: 1.4 s and 75 MB for every worker, more than
a small network's trial costs. Here the kernel is called directly, and once for many parameters: weights, gradients and
momenta lie one after another in a few long tensors, so that a small network's step is not the overhead of its forty parts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

ALIGNED = 64  # bytes at which each parameter begins, for vector instructions


@dataclass(frozen=True)
class _Stretch:
    """Parameters of one group, one clipped part and one type, one after another; what lies between them stays zero."""

    part: int | None
    weight_decay: float
    weights: Tensor
    gradients: Tensor
    momenta: Tensor


class SGD:
    """Steps all parameters of ``groups``, dicts of ``params`` and ``weight_decay`` (L2, added to the gradient).

    From its making on, a parameter's data, and what the backward pass finds as its gradient, are views of longer tensors.
    Others that somebody puts in their places (``zero_grad()`` of a module does) are copied in before a step. A parameter
    that no gradient reached has one of zero. ``momenta``: {parameter: its buffer}.
    """

    def __init__(self, groups: list[dict], *, momentum: float, clipped: Iterable[Iterable[Tensor]] = ()) -> None:
        """``momentum`` above 0 is Nesterov's (Sutskever et al. 2013). ``clipped``: parameters whose gradients' norm is one.

        ValueError for a parameter in two groups, or in two clipped parts.
        """
        self.momentum = momentum
        self.momenta: dict[Tensor, Tensor] = {}
        self.places: list[tuple[Tensor, Tensor, Tensor]] = []  # each parameter, its weights and its gradient in their stretch
        members = [(parameter, number) for number, part in enumerate(clipped) for parameter in part]
        part_of = dict(members)
        stepped = [parameter for group in groups for parameter in group["params"]]
        if len(part_of) < len(members) or len(set(stepped)) < len(stepped):
            raise ValueError("a parameter is in two groups, or in two parts whose gradients are clipped")
        alike: dict[tuple, list[Tensor]] = {}
        for number, group in enumerate(groups):
            for parameter in group["params"]:
                kind = (number, group.get("weight_decay", 0.0), part_of.get(parameter), parameter.device, parameter.dtype)
                alike.setdefault(kind, []).append(parameter)
        self.stretches = [self._laid_out(kind[2], kind[1], parameters) for kind, parameters in alike.items()]

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """One update from the gradients that are there."""
        self._take_in()
        for stretch in self.stretches:
            torch._fused_sgd_(
                [stretch.weights], [stretch.gradients], [stretch.momenta] if self.momentum else [],
                weight_decay=stretch.weight_decay, momentum=self.momentum, lr=learning_rate, dampening=0.0,
                nesterov=self.momentum > 0, maximize=False, is_first_step=False,
            )

    @torch.no_grad()
    def clip(self, most: float) -> None:
        """Shortens the gradients of each clipped part whose norm (L2) is above ``most``, as ``clip_grad_norm_`` does.

        On a CPU those of the others are left as they are; on a card, which none should wait for, they are multiplied by 1.
        """
        self._take_in()
        parts: dict[int, list[Tensor]] = {}
        for stretch in self.stretches:
            if stretch.part is not None:
                parts.setdefault(stretch.part, []).append(stretch.gradients)
        for gradients in parts.values():
            norms = [torch.linalg.vector_norm(gradient).to(gradients[0]) for gradient in gradients]
            norm = torch.linalg.vector_norm(torch.stack(norms))
            factor = (most / (norm + 1e-6)).clamp(max=1.0)
            if factor.device.type != "cpu" or factor.item() != 1:  # a NaN, too
                for gradient in gradients:
                    gradient.mul_(factor.to(gradient))

    def zero_grad(self) -> None:
        """Sets all gradients to zero."""
        for stretch in self.stretches:
            stretch.gradients.zero_()

    def _take_in(self) -> None:
        """What is not in its place any more: a method may have put another tensor there."""
        for parameter, weights, gradient in self.places:
            if parameter.grad is not gradient:
                gradient.zero_() if parameter.grad is None else gradient.copy_(parameter.grad)
                parameter.grad = gradient
            if parameter.data_ptr() != weights.data_ptr():
                parameter.data = weights.copy_(parameter)

    def _laid_out(self, part: int | None, weight_decay: float, parameters: list[Tensor]) -> _Stretch:
        first = parameters[0]
        step = max(1, ALIGNED // first.element_size())
        places, length = [], 0
        for parameter in parameters:
            places.append(length)
            length += -(-parameter.numel() // step) * step
        stretch = _Stretch(part, weight_decay, *(first.detach().new_zeros(length) for _ in range(3)))
        for parameter, place in zip(parameters, places):
            weights, gradient, momentum = (whole.as_strided(parameter.size(), _dense(parameter), place)
                                           for whole in (stretch.weights, stretch.gradients, stretch.momenta))
            parameter.data = weights.copy_(parameter.detach())
            parameter.grad = gradient
            self.places.append((parameter, weights, gradient))
            if self.momentum:
                self.momenta[parameter] = momentum
        return stretch


def _dense(parameter: Tensor) -> tuple[int, ...]:
    """Its strides (that of channels_last, say) as they are without gaps, in which the backward pass leaves its gradient."""
    return torch.empty_like(parameter, memory_format=torch.preserve_format).stride()
