"""Several initialisations trained as one batched computation: the captured step, mapped over their parameters.

Each member has its own parameters, moments, rows and random numbers, from its own seed, so that it is trained as it
would be alone; only tensors that nobody trains (buffers) are shared.  A step of eight small members costs far less than
eight steps, since small tensors take as long as somewhat larger ones.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pyro_mnar.capture.gradient import capture, mapped
from pyro_mnar.capture.internals import CannotCapture
from pyro_mnar.capture.tracing import flat
from pyro_mnar.infer.session import Session
from pyro_mnar.training.captured_steps import STEPS_BETWEEN_CHECKS, CapturedAdam, LossAndGradient, Numbers, by_python
from pyro_mnar.training.reweighted import Reweighted
from pyro_mnar.training.run import TrainingRun
from pyro_mnar.training.stepper import AdamState, EagerSteps, Optimisation, losses_of
from pyro_mnar.training.steps import Steps, Thresholds
from pyro_mnar.training.trainer import Trainer

log = logging.getLogger(__name__)


class VectorisedSteps:
    """Captured steps of several members at once.

    Args:
        members: What each of them minimises, on the same table, be it with other weights of the rows.
        sessions: Their random streams.
        steps_between_checks: At least so many; each first step of :meth:`run` can be one that is checked.

    Raises:
        CannotCapture: If the step cannot be captured, or not be mapped over members; says why.
    """

    def __init__(
        self,
        members: Sequence[Optimisation],
        sessions: Sequence[Session],
        steps_between_checks: int = STEPS_BETWEEN_CHECKS,
    ) -> None:
        self.members, self.sessions = members, sessions
        first, *others = members
        with sessions[0].running():
            self.captured = capture(first.loss, first.parameters, first.example(), first.buffers)
        for other in others:
            shapes = ([tensor.shape for tensor in member.parameters] for member in (first, other))
            buffers = zip(first.buffers, other.buffers, strict=True)
            if len({tuple(own) for own in shapes}) > 1 or not all(_are_same(a, b) for a, b in buffers):
                raise CannotCapture("members differ in more than the values of their parameters")
        theta = torch.stack([flat(member.parameters) for member in members])
        graph = mapped(self.captured, theta, first.example())
        weights = [member.table.weight for member in members if isinstance(member.table, Reweighted)]
        of_members = torch.stack(weights) if weights else None
        self.adam = CapturedAdam(graph, theta, first.table, first.rates, steps_between_checks, first.clip, of_members)

    @property
    def mode(self) -> str:
        """``"inductor"`` once :meth:`compile` was called, ``"graph"`` before."""
        return self.adam.mode

    def compile(self) -> None:
        """Have inductor compile the step.

        Raises:
            CannotCapture: If it cannot; the graph is then run as it is.
        """
        self.adam.compile(self.members[0].size)

    def run(self, rows: Int[Tensor, "batches members size"]) -> Iterator[Float[Tensor, " members"]]:
        """The members' losses at each minibatch in turn, before its step.

        Raises:
            CannotCapture: If the first step's losses or gradients are not what Python makes of them; it is then not
                taken.
        """
        return self.adam.run(rows, self._noise, self._by_python)

    def synchronise(self) -> None:
        """Let the members' own parameters be what was trained."""
        for member, theta in zip(self.members, self.adam.state.parameters, strict=True):
            member.write(theta)

    def state(self) -> dict[str, Any]:
        """Of all members together; see :meth:`~pyro_mnar.training.captured_steps.CapturedAdam.memory`."""
        return self.adam.memory()

    def by_python(self) -> list[EagerSteps]:
        """Steps of each member by Python that go on from here, with Adam's memory."""
        states = (AdamState(*tensors) for tensors in zip(*self.adam.state, strict=True))
        pairs = zip(self.members, states, strict=True)
        return [EagerSteps.resumed(member, state, self.adam.done) for member, state in pairs]

    def _noise(self, steps: int) -> Numbers:
        """Each member's from its own session, the numbers that it would draw alone."""
        drawn = []
        for session in self.sessions:
            with session.running():
                drawn.append(self.captured.noise(steps, self.adam.state.parameters))
        normal, uniform = zip(*drawn, strict=True)
        return torch.stack(normal, dim=1), torch.stack(uniform, dim=1)

    def _by_python(self, rows: Int[Tensor, "members size"], normal: Tensor, uniform: Tensor) -> LossAndGradient:
        self.synchronise()
        results = []
        for number, (member, session) in enumerate(zip(self.members, self.sessions, strict=True)):
            with session.running():
                batch = member.table.take(rows[number])
                results.append(by_python(member, self.captured, batch, normal[number], uniform[number]))
        losses, gradients = zip(*results, strict=True)
        return torch.stack(losses), torch.stack(gradients)


class VectorisedTrainer:
    """Trains several runs at once, as :class:`~pyro_mnar.training.trainer.Trainer` trains one.

    Args:
        runs: The members, on the same table and for as many steps.
        mode: ``"graph"``, ``"inductor"``, or ``"auto"``, which chooses one of them.
        thresholds: What ``"auto"`` goes by.
        saved: A :meth:`state` to go on from, whose runs have been put into these.

    Attributes:
        steps: What takes the steps of all members.
        in_turn: What trains each member by itself, once their steps together failed.

    Raises:
        CannotCapture: If the step cannot be captured, not be mapped over members, or not be compiled where that is
            asked for; says why.
    """

    def __init__(
        self,
        runs: Sequence[TrainingRun],
        mode: str,
        thresholds: Thresholds | None = None,
        saved: Mapping[str, Any] | None = None,
    ) -> None:
        self.runs, self.column = runs, runs[0].column
        thresholds = thresholds or Thresholds()
        first = runs[0].optimisation
        self.steps = VectorisedSteps(
            [run.optimisation for run in runs], [run.session for run in runs], thresholds.steps_between_checks
        )
        if mode == "auto":
            mode = thresholds.after_capture(len(first.rates), first.table.device, self.steps.adam.captured).mode
        if mode == "inductor":
            with runs[0].session.running():  # one at a time: inductor's own state belongs to the whole process
                self.steps.compile()
        self.in_turn: list[Trainer] = []
        if saved is None:
            self._capture_held_out()
        else:
            self._resume(saved)

    @property
    def epochs_done(self) -> int:
        """Epochs that were finished."""
        return len(self.runs[0].history)

    @property
    def epochs_since_best(self) -> int:
        """Of the member that improved last."""
        return min(run.epochs_since_best for run in self.runs)

    def epoch(self) -> float:
        """One pass over the table by every member; returns the best bound per row, in nats."""
        rows = torch.stack([run.shuffled() for run in self.runs], dim=1)
        if not self.in_turn:
            try:
                self._epoch_at_once(rows)
            except CannotCapture as cause:
                log.warning("starts: in turn from epoch %d on (%s)", len(self.runs[0].history) + 1, cause)
                pairs = zip(self.runs, self.steps.by_python(), strict=True)
                self.in_turn = [Trainer(run, steps) for run, steps in pairs]
        for trainer, own in zip(self.in_turn, rows.unbind(1), strict=False):
            trainer.epoch_on(own)
        return max(run.history[-1][self.column] for run in self.runs)

    def finish(self) -> None:
        """Put every member's best parameters back."""
        if not self.in_turn:
            self.steps.synchronise()
        for run in self.runs:
            run.finish()

    def state(self) -> dict[str, Any]:
        """Of all runs and of their steps."""
        steps = [trainer.steps.state() for trainer in self.in_turn] or [self.steps.state()]
        return {
            "runs": [run.state() for run in self.runs],
            "steps": steps,
            "mode": self.steps.mode,
            "in_turn": bool(self.in_turn),
        }

    def _resume(self, saved: Mapping[str, Any]) -> None:
        if saved["in_turn"]:
            pairs = zip(self.runs, saved["steps"], strict=True)
            self.in_turn = [Trainer(run, Steps.resumed(run.optimisation, state)) for run, state in pairs]
            return
        self.steps.adam.remember(saved["steps"][0])
        if saved["runs"][0]["held_out_captured"]:
            self._capture_held_out()

    def _capture_held_out(self) -> None:
        """One graph for all, since parameters are its inputs."""
        first, *others = self.runs
        first.capture_held_out()
        for run in others:
            if run.held_out is not None and first.held_out is not None:
                run.held_out.captured = first.held_out.captured

    def _epoch_at_once(self, rows: Int[Tensor, "batches members size"]) -> None:
        start = time.perf_counter()
        losses = losses_of(self.steps, rows)
        for number, of_members in enumerate(losses.tolist()):
            for member, loss in enumerate(of_members):
                if not math.isfinite(loss):
                    self.runs[member].fail(rows[number, member], number, loss)
        for run, bound in zip(self.runs, (-losses.double().mean(0)).tolist(), strict=True):
            run.record(bound, start)


def _are_same(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors hold the same numbers, NaN included."""
    if first.shape != second.shape:
        return False
    return bool(((first == second) | (first.isnan() & second.isnan())).all())
