"""Which form of steps serves a training run best, and how Python takes over where captured steps fail.

Capturing costs a second, compiling some twenty; both pay in a long run only.  The choice depends on the number of steps
ahead and on how many numbers a step computes, and on nothing that a clock says, so that the same seed gives the same
numbers.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pyro_mnar.capture.gradient import capture
from pyro_mnar.capture.inductor import no_compiler
from pyro_mnar.capture.internals import CannotCapture
from pyro_mnar.capture.tracing import Captured
from pyro_mnar.training.captured_steps import STEPS_BETWEEN_CHECKS, CapturedSteps
from pyro_mnar.training.stepper import EagerSteps, Optimisation

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Thresholds:
    """From where on it pays to capture a step, and to compile it; docs/speed.md has the measurements.

    Attributes:
        steps_to_capture: From so many steps on, a capture pays.
        steps_to_compile: From so many steps on, compiling pays, where a step computes next to nothing;
        numbers_to_halve: from half as many on where its graph computes so many numbers, and so forth.
        steps_between_checks: Of captured steps, by Python; at least so many.
        steps_to_capture_on_a_gpu: The same as ``steps_to_capture``; kernels of a captured step are launched at once.
        steps_to_compile_on_a_gpu: From so many steps on, however many numbers they compute.
    """

    steps_to_capture: int = 500
    steps_to_compile: int = 15_000
    numbers_to_halve: int = 3_000_000
    steps_between_checks: int = STEPS_BETWEEN_CHECKS
    steps_to_capture_on_a_gpu: int = 100
    steps_to_compile_on_a_gpu: int = 30_000

    def before_capture(self, steps: int, device: torch.device) -> Choice:
        """Whether a capture pays for a run of so many steps."""
        if device.type == "meta":
            return Choice("eager", "nothing is computed on the meta device")
        if steps < (self.steps_to_capture_on_a_gpu if device.type == "cuda" else self.steps_to_capture):
            return Choice("eager", f"{steps} steps are too few to pay for a capture")
        return Choice("graph", f"{steps} steps pay for a capture")

    def after_capture(self, steps: int, device: torch.device, captured: Captured) -> Choice:
        """Whether compiling pays too."""
        numbers = captured.num_results
        least = self.steps_to_compile / (1 + numbers / self.numbers_to_halve)
        if steps < (self.steps_to_compile_on_a_gpu if device.type == "cuda" else least):
            return Choice("graph", f"{steps} steps of {numbers:,} numbers pay for a capture, not for compiling")
        if device.type == "cpu" and (reason := no_compiler()) is not None:
            return Choice("graph", reason)
        return Choice("inductor", f"{steps} steps of {numbers:,} numbers pay for compiling")


class Choice(NamedTuple):
    """A mode, and why."""

    mode: str
    reason: str


class Steps:
    """Adam's steps on minibatches, in whichever mode was asked for or serves best; says in the log which it is.

    Make it where the model can be run, within a :class:`~pyro_mnar.infer.session.Session`, since a capture runs it.

    Args:
        optimisation: What to minimise.
        mode: ``"eager"``, ``"graph"``, ``"inductor"`` or ``"auto"``.
        thresholds: What ``"auto"`` goes by.

    Attributes:
        stepper: What takes the steps now.
    """

    def __init__(self, optimisation: Optimisation, mode: str = "auto", thresholds: Thresholds | None = None) -> None:
        self.stepper: EagerSteps | CapturedSteps
        self.stepper = _chosen(optimisation, mode, thresholds or Thresholds())

    @classmethod
    def resumed(
        cls, optimisation: Optimisation, state: Mapping[str, Any], thresholds: Thresholds | None = None
    ) -> Steps:
        """Steps that go on from a :meth:`state`, in its mode.

        Raises:
            ValueError: If steps of this mode cannot be had here, so that other numbers would come.
        """
        steps = cls(optimisation, state["mode"], thresholds)
        check_mode(steps.mode, state["mode"])
        steps.stepper.put(state)
        return steps

    @property
    def mode(self) -> str:
        """How steps are run now."""
        return self.stepper.mode

    def run(self, rows: Int[Tensor, "batches size"]) -> Iterator[Float[Tensor, ""]]:
        """The loss of each minibatch in turn, before its step; no step is taken where it is not finite."""
        if isinstance(self.stepper, CapturedSteps):
            taken = 0
            try:
                for loss in self.stepper.run(rows):
                    taken += 1
                    yield loss
                return
            except CannotCapture as cause:
                log.warning("training steps: eager from step %d on (%s)", self.stepper.adam.done + 1, cause)
                self.stepper, rows = self.stepper.by_python(), rows[taken:]
        yield from self.stepper.run(rows)

    def synchronise(self) -> None:
        """Let the model's own parameters be what was trained."""
        self.stepper.synchronise()

    def state(self) -> dict[str, Any]:
        """All that the next step depends on but the rows."""
        return self.stepper.state()


def check_mode(mode: str, expected: str) -> None:
    """Refuse to go on in another mode than before, which would give other numbers; the log says why it came to that."""
    if mode != expected:
        raise ValueError(
            f"resume: the checkpoint's steps are of mode {expected!r}, which cannot be had here (the log says why):"
            " resume where it was made, or fit anew"
        )


def _chosen(optimisation: Optimisation, mode: str, thresholds: Thresholds) -> EagerSteps | CapturedSteps:
    steps, device = len(optimisation.rates), optimisation.table.device
    wanted = thresholds.before_capture(steps, device) if mode == "auto" else Choice(mode, "as asked for")
    stepper: EagerSteps | CapturedSteps = EagerSteps(optimisation)
    failure = None
    if wanted.mode != "eager":
        try:
            captured = capture(optimisation.loss, optimisation.parameters, optimisation.example(), optimisation.buffers)
        except CannotCapture as cause:
            failure = f"not captured: {cause}"
        else:
            stepper = CapturedSteps(optimisation, captured, thresholds.steps_between_checks)
            wanted = thresholds.after_capture(steps, device, captured) if mode == "auto" else wanted
            if wanted.mode == "inductor":
                failure = _not_compiled(stepper)
    level = logging.INFO if failure is None else logging.WARNING
    log.log(level, "training steps: %s (%s)", stepper.mode, failure or wanted.reason)
    return stepper


def _not_compiled(stepper: CapturedSteps) -> str | None:
    """Compile, or say why not."""
    try:
        stepper.compile()
    except CannotCapture as cause:
        return f"not compiled: {cause}"
    return None
