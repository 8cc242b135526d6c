"""What takes training steps: the protocol that its three forms keep, and the form run by Python.

The others are :class:`~pyro_mnar.training.captured_steps.CapturedSteps` and
:class:`~pyro_mnar.training.vectorised.VectorisedSteps`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.optim.adam import adam

from pyro_mnar.capture.gradient import Loss
from pyro_mnar.capture.tracing import views
from pyro_mnar.tables.batch import Batch, RowSource

BETAS, EPSILON = (0.9, 0.999), 1e-8  # torch's defaults
# In usual lengths of a gradient; of ordinary tables no step comes to 1.4, so that their numbers stay as they are.
CLIP = 5.0


@runtime_checkable
class Stepper(Protocol):
    """Adam's steps, one for each minibatch; trains one initialisation, or several (members) at once."""

    @property
    def mode(self) -> str:
        """How steps are run: ``"eager"``, ``"graph"`` or ``"inductor"``."""
        ...

    def run(self, rows: Int[Tensor, "batches *members size"]) -> Iterator[Float[Tensor, "*members"]]:
        """The loss of each minibatch in turn, before its step; no step is taken where it is not finite."""
        ...

    def synchronise(self) -> None:
        """Let the model's own parameters be what was trained; due after :meth:`run`."""
        ...

    def state(self) -> dict[str, Any]:
        """All that the next step depends on but parameters and rows: numbers, words and copies of tensors."""
        ...


def losses_of(steps: Stepper, rows: Int[Tensor, "batches *members size"]) -> Float[Tensor, "batches *members"]:
    """Take the steps of all minibatches, or until a loss is not finite; the losses so far.

    A GPU is not waited for at every step: all are taken there, and the losses read once.
    """
    taken = []
    for loss in steps.run(rows):
        taken.append(loss)
        if not loss.is_cuda and not loss.isfinite().all():
            break
    steps.synchronise()
    return torch.stack(taken)


@dataclass(frozen=True, eq=False)
class Optimisation:
    """What steps minimise, and by which parameters.

    Attributes:
        loss: Of a batch, a scalar with a gradient.
        parameters: What to train.
        table: All rows.
        size: Rows of a minibatch.
        rates: The learning rate of every step; ``(steps,)``.
        buffers: Other tensors of the model, which a capture must not change.
        clip: How many times as long as usual a gradient may be (:func:`clipped`); None for no limit.
    """

    loss: Loss
    parameters: Sequence[Tensor]
    table: RowSource
    size: int
    rates: Float[Tensor, " steps"]
    buffers: Sequence[Tensor] = ()
    clip: float | None = CLIP

    def example(self) -> Batch:
        """A minibatch to capture a step by: the last rows of the table."""
        return self.table.take(torch.arange(len(self.table) - self.size, len(self.table), device=self.table.device))

    def write(self, theta: Float[Tensor, " parameters"]) -> None:
        """Copy numbers in one row into the parameters."""
        with torch.no_grad():
            for parameter, values in zip(self.parameters, views(theta, self.parameters), strict=True):
                parameter.copy_(values)


def limits(clip: float | None, steps: int) -> Float[Tensor, " steps"]:
    """What Adam's second moment is multiplied by for the square of the greatest length of each step; 0 for no limit.

    (clip)² / (1 - β₂ᵗ⁻¹), since the moment starts at zero; the first step has none before it.
    """
    if clip is None:
        return torch.zeros(steps, dtype=torch.float64)
    before = torch.arange(steps, dtype=torch.float64)
    return torch.where(before > 0, clip * clip / (1 - BETAS[1] ** before.clamp_min(1.0)), 0.0)


def share_kept(size: Float[Tensor, "*members"], most: Float[Tensor, "*members"]) -> Float[Tensor, "*members"]:
    """By what a gradient is multiplied so that the square of its length, ``size``, is at most ``most``."""
    return torch.where((most > 0) & (size > most), (most / size).sqrt(), 1.0)


def clipped(
    gradient: Float[Tensor, "*members parameters"],
    second: Float[Tensor, "*members parameters"],
    limit: Float[Tensor, ""],
) -> Float[Tensor, "*members parameters"]:
    """A gradient, shortened where it is many times as long as usual.

    One minibatch with a value a million standard deviations away would else hold Adam's steps small for a thousand
    more.  The sum of Adam's second moments is the mean square of the lengths of the gradients before, newer ones
    counting more: so there is nothing more to keep, and other units of the bound change nothing.
    """
    size, most = gradient.square().sum(-1, keepdim=True), limit * second.sum(-1, keepdim=True)
    return gradient * share_kept(size, most)


class AdamState(NamedTuple):
    """What Adam keeps, all parameters in one row: θ and the first and second moments of its gradient."""

    parameters: Float[Tensor, "*members parameters"]
    first: Float[Tensor, "*members parameters"]
    second: Float[Tensor, "*members parameters"]


class EagerSteps:
    """Steps run by Python: the model, autograd and torch's own Adam.

    Adam is the function that ``torch.optim.Adam`` calls: making an object of that class imports torch's compiler, which
    takes longer than a small fit.

    Args:
        optimisation: What to minimise.

    Attributes:
        done: Steps taken so far.
        memory: What Adam keeps of each parameter that has had a gradient, by torch's names: ``step``, ``exp_avg`` and
            ``exp_avg_sq``.
    """

    mode = "eager"

    def __init__(self, optimisation: Optimisation) -> None:
        self.optimisation, self.done = optimisation, 0
        self._is_fused = all(p.device.type in ("cpu", "cuda") for p in optimisation.parameters)
        self.limits = limits(optimisation.clip, len(optimisation.rates)).tolist()
        self.memory: dict[Tensor, dict[str, Tensor]] = {}

    @classmethod
    def resumed(cls, optimisation: Optimisation, state: AdamState, done: int) -> EagerSteps:
        """Steps that go on with the parameters and moments that others left, after so many steps."""
        steps = cls(optimisation)
        steps.done = done
        optimisation.write(state.parameters)
        moments = (views(moment, optimisation.parameters) for moment in (state.first, state.second))
        for parameter, first, second in zip(optimisation.parameters, *moments, strict=True):
            step = torch.tensor(float(done), device=parameter.device)
            steps.memory[parameter] = {"step": step, "exp_avg": first.clone(), "exp_avg_sq": second.clone()}
        return steps

    def run(self, rows: Int[Tensor, "batches size"]) -> Iterator[Float[Tensor, ""]]:
        """The loss of each minibatch in turn, before its step; no step is taken where it is not finite."""
        for batch in map(self.optimisation.table.take, rows):
            loss = self.optimisation.loss(batch)
            if math.isfinite(loss.item()):
                for parameter in self.optimisation.parameters:
                    parameter.grad = None
                loss.backward()
                self._clip(self.limits[self.done])
                self._step(self.optimisation.rates[self.done].item())
            self.done += 1
            yield loss.detach()

    def _clip(self, limit: float) -> None:
        """As :func:`clipped`, of gradients that are one tensor a parameter."""
        gradients = [one.grad for one in self.optimisation.parameters if one.grad is not None]
        memory = [self.memory[one] for one in self.optimisation.parameters if one in self.memory]
        if limit and gradients and memory:
            size = torch.stack([gradient.square().sum() for gradient in gradients]).sum()
            most = limit * torch.stack([one["exp_avg_sq"].sum() for one in memory]).sum()
            if (share := share_kept(size, most).item()) < 1:
                for gradient in gradients:
                    gradient.mul_(share)

    def _step(self, rate: float) -> None:
        """Adam's step along the gradients that there are."""
        moved = [parameter for parameter in self.optimisation.parameters if parameter.grad is not None]
        for parameter in moved:
            if parameter not in self.memory:
                self.memory[parameter] = {
                    "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
        memory = [self.memory[parameter] for parameter in moved]
        with torch.no_grad():
            adam(
                moved,
                [cast(Tensor, parameter.grad) for parameter in moved],
                [one["exp_avg"] for one in memory],
                [one["exp_avg_sq"] for one in memory],
                [],
                [one["step"] for one in memory],
                fused=self._is_fused,
                amsgrad=False,
                beta1=BETAS[0],
                beta2=BETAS[1],
                lr=rate,
                weight_decay=0.0,
                eps=EPSILON,
                maximize=False,
            )

    def synchronise(self) -> None:
        """Nothing is due: the model's own parameters are trained."""

    def state(self) -> dict[str, Any]:
        """Steps taken, and Adam's memory of each parameter: None of one that never had a gradient."""
        memory = [self.memory.get(parameter) for parameter in self.optimisation.parameters]
        copies = [{name: value.clone() for name, value in one.items()} if one else None for one in memory]
        return {"mode": self.mode, "done": self.done, "memory": copies}

    def put(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of steps by Python; parameters are put by whoever holds them."""
        self.done = state["done"]
        for parameter, memory in zip(self.optimisation.parameters, state["memory"], strict=True):
            self.memory.pop(parameter, None)
            if memory is not None:
                device = parameter.device  # of the step count too, where Adam is fused
                self.memory[parameter] = {name: value.to(device) for name, value in memory.items()}
