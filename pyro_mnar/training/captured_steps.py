"""Captured training steps: Adam around the graph of a loss and its gradient, interpreted, or compiled by inductor.

    m ← β₁m + (1 - β₁)g,   v ← β₂v + (1 - β₂)g²,   θ ← θ - a_t·m / (√v·b_t + ε)

with a_t the learning rate over 1 - β₁ᵗ and b_t = (1 - β₂ᵗ)^-½, which enter as inputs, as does the limit of g's length
(:func:`~pyro_mnar.training.stepper.clipped`).  θ, m and v are one flat tensor each, changed in place; θ stays as it is
where the loss is not finite.  Rows and random numbers are laid out for many steps at a time.  Now and then Python
computes a step's loss and gradient too, from the same numbers: a model that does something else by now is found out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pyro_mnar.capture.gradient import loss_and_gradient
from pyro_mnar.capture.inductor import compiled
from pyro_mnar.capture.internals import CannotCapture
from pyro_mnar.capture.replay import Replayed
from pyro_mnar.capture.tracing import Captured, differ, flat
from pyro_mnar.tables.batch import Batch, RowSource
from pyro_mnar.training.stepper import BETAS, EPSILON, AdamState, EagerSteps, Optimisation, clipped, limits

STEPS_BETWEEN_CHECKS = 200  # at least, where an epoch is shorter; a check takes about as long as ten captured steps
CHECKS_APART_ON_A_GPU = 10  # as many times: Python takes as long there as fifty captured steps
STEPS_OF_A_REPLAY = 16  # that one CUDA graph holds, so that what Python does between two replays is spread over them
CHUNK_BYTES = 2**24  # of rows and noise laid out at a time

Numbers = tuple[Float[Tensor, "..."], Float[Tensor, "..."]]  # normal and uniform ones
LossAndGradient = tuple[Float[Tensor, "*members"], Float[Tensor, "*members parameters"]]


class CapturedSteps:
    """Steps of one initialisation by a captured graph.

    Args:
        optimisation: What to minimise.
        captured: The graph of its loss and gradient (:func:`~pyro_mnar.capture.gradient.capture`).
        steps_between_checks: At least so many; each first step of :meth:`run` can be one that is checked.
    """

    def __init__(
        self, optimisation: Optimisation, captured: Captured, steps_between_checks: int = STEPS_BETWEEN_CHECKS
    ) -> None:
        self.optimisation, theta = optimisation, flat(optimisation.parameters)
        self.adam = CapturedAdam(
            captured, theta, optimisation.table, optimisation.rates, steps_between_checks, optimisation.clip
        )

    @property
    def mode(self) -> str:
        """``"inductor"`` once :meth:`compile` was called, ``"graph"`` before."""
        return self.adam.mode

    def compile(self) -> None:
        """Have inductor compile the step.

        Raises:
            CannotCapture: If it cannot; the graph is then run as it is.
        """
        self.adam.compile(self.optimisation.size)

    def run(self, rows: Int[Tensor, "batches size"]) -> Iterator[Float[Tensor, ""]]:
        """The loss of each minibatch in turn, before its step.

        Raises:
            CannotCapture: If the first step's loss or gradient is not what Python makes of it; it is then not taken.
        """
        return self.adam.run(rows, self._noise, self._by_python)

    def synchronise(self) -> None:
        """Let the model's own parameters be what was trained."""
        self.optimisation.write(self.adam.state.parameters)

    def state(self) -> dict[str, Any]:
        """See :meth:`CapturedAdam.memory`."""
        return self.adam.memory()

    def put(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of captured steps."""
        self.adam.remember(state)

    def by_python(self) -> EagerSteps:
        """Steps by Python that go on from here, with Adam's memory."""
        return EagerSteps.resumed(self.optimisation, self.adam.state, self.adam.done)

    def _noise(self, steps: int) -> Numbers:
        return self.adam.captured.noise(steps, self.adam.state.parameters)

    def _by_python(self, rows: Int[Tensor, " size"], normal: Tensor, uniform: Tensor) -> LossAndGradient:
        self.synchronise()
        return by_python(self.optimisation, self.adam.captured, self.optimisation.table.take(rows), normal, uniform)


class CapturedAdam:
    """Adam's state and steps around a captured gradient of one initialisation, or of several at once.

    Args:
        captured: The graph; for several, with members as the first dimension of all but constants.
        theta: The parameters to start from.
        table: All rows.
        rates: The learning rate of every step; ``(steps,)``.
        steps_between_checks: At least so many.
        clip: How many times as long as usual a gradient may be; None for no limit.
        weights: How often each row of the table counts for each member, if otherwise than in the table; ``(members,
            rows)``.

    Attributes:
        state: Parameters and moments, as they are now.
        done: Steps taken so far.
        mode: ``"graph"``, or ``"inductor"`` once compiled.
        step: Takes one step.
        several: Takes :data:`STEPS_OF_A_REPLAY` of them, where that is faster.
    """

    def __init__(
        self,
        captured: Captured,
        theta: Float[Tensor, "*members parameters"],
        table: RowSource,
        rates: Float[Tensor, " steps"],
        steps_between_checks: int,
        clip: float | None,
        weights: Float[Tensor, "members rows"] | None = None,
    ) -> None:
        self.captured, self.table, self.weights = captured, table, weights
        self.steps_between_checks = steps_between_checks * (CHECKS_APART_ON_A_GPU if theta.is_cuda else 1)
        self.state = AdamState(theta, torch.zeros_like(theta), torch.zeros_like(theta))
        self.factors = torch.cat([bias_corrected(rates), limits(clip, len(rates))[:, None]], dim=1).to(theta)
        self.mode, self.several = "graph", None
        self.step = self._launched(interpreted(captured))
        self.done = self.next_check = 0

    def compile(self, size: int) -> None:
        """Have inductor compile the step, for minibatches of this size.

        Raises:
            CannotCapture: If it cannot; the graph is then run as it is.
        """
        members = self.state.parameters.shape[:-1]
        rows = torch.arange(size, device=self.table.device).expand(1, *members, size)
        # Zeros for noise: no generator moves.
        noise = [self.state.parameters.new_zeros(1, *members, count) for count in self.captured.num_random]
        example = [tensor[0] for tensor in self._inputs(rows, noise)]
        self.step = self._launched(as_machine_code(self.captured, self._of_step(example)))
        self.mode = "inductor"

    def run(
        self,
        rows: Int[Tensor, "batches *members size"],
        noise: Callable[[int], Numbers],
        by_python: Callable[[Tensor, Tensor, Tensor], LossAndGradient],
    ) -> Iterator[Float[Tensor, "*members"]]:
        """The loss of each minibatch in turn, before its step.

        Args:
            rows: Positions in the table.
            noise: Random numbers of so many steps, the first dimension.
            by_python: What the model itself makes of a step's rows, normal and uniform numbers.

        Raises:
            CannotCapture: If the first step's loss or gradient is not what Python makes of it; it is then not taken.
        """
        is_due = self.done >= self.next_check
        for chunk in rows.split(self._steps_per_chunk(rows)):
            varying = self._inputs(chunk, noise(len(chunk)))
            of_steps = list(zip(*(tensor.unbind() for tensor in varying), strict=True))
            at = 0
            while at < len(chunk):
                if not is_due and self.several is not None and at + STEPS_OF_A_REPLAY <= len(chunk):
                    some = [tensor[at : at + STEPS_OF_A_REPLAY] for tensor in varying]
                    losses = self.several(self._of_step(some)).unbind()
                else:
                    inputs = self._of_step(of_steps[at])
                    if is_due:
                        is_due, self.next_check = False, self.done + self.steps_between_checks
                        losses = [self._checked(inputs, by_python(chunk[at], inputs[4], inputs[5]))]
                    else:
                        losses = [self.step(inputs)]
                self.done += len(losses)
                at += len(losses)
                yield from losses

    def memory(self) -> dict[str, Any]:
        """All that the next step depends on: copies of parameters and moments, and how far it came."""
        tensors = {name: tensor.clone() for name, tensor in self.state._asdict().items()}
        return {"mode": self.mode, "done": self.done, "next_check": self.next_check, **tensors}

    def remember(self, memory: Mapping[str, Any]) -> None:
        """Go on from what :meth:`memory` gave."""
        self.done, self.next_check = memory["done"], memory["next_check"]
        for name, tensor in self.state._asdict().items():
            tensor.copy_(memory[name])

    def _launched(self, step: Step) -> Step:
        """The step as it is called; on a GPU as a CUDA graph, and so several in turn, if it draws no random numbers."""
        if not self.state.parameters.is_cuda or self.captured.others:
            return step
        fields = self.table.take(torch.arange(1, device=self.table.device)).of_rows()
        num_varying = 1 + len(self.captured.num_random) + len(fields)
        self.several = Replayed(in_turn(step, len(self.state), num_varying), self.state, num_varying)
        return Replayed(step, self.state, num_varying)

    def _steps_per_chunk(self, rows: Int[Tensor, "batches *members size"]) -> int:
        one = self.table.take(rows.flatten()[:1]).of_rows().values()
        numbers = sum(value.numel() for value in one) * rows.shape[-1]
        return max(1, CHUNK_BYTES // (8 * (numbers + sum(self.captured.num_random))))

    def _inputs(
        self, rows: Int[Tensor, "steps *members size"], noise: Sequence[Float[Tensor, "steps *members _"]]
    ) -> list[Tensor]:
        """What changes from step to step, in the order in which a step takes it; the first dimension is the steps'."""
        of_rows = self.table.take(rows.flatten()).of_rows()
        fields = {name: value.unflatten(0, rows.shape) for name, value in of_rows.items()}
        if self.weights is not None:
            member = torch.arange(len(self.weights), device=rows.device)[:, None]
            fields["weight"] = self.weights[member, rows]
        return [self.factors[self.done : self.done + len(rows)], *noise, *fields.values()]

    def _of_step(self, varying: Sequence[Tensor]) -> list[Tensor]:
        """All that a step takes."""
        return [*self.state, *varying, *self.captured.constants]

    def _checked(self, inputs: list[Tensor], expected: LossAndGradient) -> Float[Tensor, "*members"]:
        """Take a step whose loss and gradient are known."""
        kept = [tensor.clone() for tensor in self.state]
        own_loss, gradient = expected
        moment = torch.lerp(kept[1], clipped(gradient, kept[2], inputs[3][2]), 1 - BETAS[0])
        loss = self.step(inputs)  # machine code empties the list
        # The first moment shows the gradient without the amplification that θ's own step has where it is tiny.
        pairs = {"loss": (loss, own_loss), "gradient": (self.state.first, moment)}
        wrong = [name for name, (got, own) in pairs.items() if differ(got, own)]
        if wrong and own_loss.isfinite().all():
            for tensor, value in zip(self.state, kept, strict=True):
                tensor.copy_(value)
            raise CannotCapture(f"the captured step's {' and '.join(wrong)} is not the model's own any more")
        return loss


def by_python(
    optimisation: Optimisation,
    captured: Captured,
    batch: Batch,
    normal: Float[Tensor, " _"],
    uniform: Float[Tensor, " _"],
) -> tuple[Float[Tensor, ""], Float[Tensor, " parameters"]]:
    """Loss and gradient of the model itself on a captured step's random numbers; moves no generator.

    Raises:
        CannotCapture: If the model draws other numbers than when it was captured.
    """
    with torch.random.fork_rng(devices=[]), captured.replayed(normal, uniform) as noise:
        result = loss_and_gradient(optimisation.loss, optimisation.parameters, batch)
    if tuple(noise.taken.values()) != captured.counts:
        raise CannotCapture("the model does not draw as many random numbers any more")
    return result


def bias_corrected(rates: Float[Tensor, " steps"]) -> Float[Tensor, "steps 2"]:
    """Adam's pair (a_t, b_t) of each step, at the given learning rates."""
    t = torch.arange(1, 1 + len(rates), dtype=torch.float64)
    return torch.stack([rates.double() / (1 - BETAS[0] ** t), (1 - BETAS[1] ** t).rsqrt()], dim=1)


# A step is a function of AdamState, (a_t, b_t, limit), normal and uniform numbers, rows and constants, in this order.
Step = Callable[[list[Tensor]], Tensor]


def interpreted(captured: Captured) -> Step:
    """The step by the graph as it was captured, one operation of torch after another."""

    def step(inputs: list[Tensor]) -> Tensor:
        with torch.no_grad():
            return _adam_step(captured, *inputs)

    return step


def in_turn(step: Step, num_state: int, num_varying: int) -> Step:
    """Several steps: what changes from one to the next has a first dimension of steps, and so have the losses."""

    def steps(inputs: list[Tensor]) -> Tensor:
        state, constants = inputs[:num_state], inputs[num_state + num_varying :]
        of_steps = zip(*(tensor.unbind() for tensor in inputs[num_state : num_state + num_varying]), strict=True)
        return torch.stack([step([*state, *varying, *constants]) for varying in of_steps])

    return steps


def as_machine_code(captured: Captured, inputs: list[Tensor]) -> Step:
    """The step compiled for inputs of these shapes.

    Raises:
        CannotCapture: If there is no compiler, or it fails; says why.
    """

    def step(*inputs: Tensor) -> tuple[Tensor]:
        return (_adam_step(captured, *inputs),)

    code = compiled(step, inputs)

    def run(inputs: list[Tensor]) -> Tensor:
        return code(inputs)[0]

    return run


def _adam_step(
    captured: Captured, theta: Tensor, first: Tensor, second: Tensor, factors: Tensor, *inputs: Tensor
) -> Float[Tensor, "*members"]:
    loss, gradient = captured.graph(theta, *inputs)
    is_finite = loss.isfinite().unsqueeze(-1)
    gradient = clipped(gradient, second, factors[2])
    if theta.is_cuda:  # steps go on there until somebody reads the losses
        gradient = torch.where(is_finite, gradient, 0.0)
    first.lerp_(gradient, 1 - BETAS[0])
    second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
    change = factors[0] * first / (second.sqrt() * factors[1] + EPSILON)
    theta.sub_(torch.where(is_finite, change, 0.0))
    return loss
