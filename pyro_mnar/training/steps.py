"""Training steps, run by Python or captured: which of the two, and how one takes over from the other.

Capturing costs a second, compiling some twenty; both pay in a long run only.  The choice depends on the number of steps
ahead and on how many numbers a step computes, and on nothing that a clock says, so that the same seed gives the same
numbers.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pyro_mnar.capture.gradient import Loss, capture, loss_and_gradient
from pyro_mnar.capture.inductor import no_compiler
from pyro_mnar.capture.internals import CannotCapture
from pyro_mnar.capture.tracing import Captured, differ, flat, views
from pyro_mnar.tables.batch import Batch, RowSource
from pyro_mnar.training.adam import BETAS, State, as_machine_code, bias_corrected, interpreted

STEPS_TO_CAPTURE = 500  # from how many steps on a capture pays; docs/speed.md has the measurements
STEPS_TO_COMPILE = 15_000  # from how many steps on compiling pays, where a step computes next to nothing;
NUMBERS_TO_HALVE = 3_000_000  # from half as many on where its graph computes so many numbers, and so forth
STEPS_BETWEEN_CHECKS = 200  # at least, where an epoch is shorter; a check takes about as long as ten captured steps
CHUNK_BYTES = 2**24  # of rows and noise laid out at a time

log = logging.getLogger(__name__)


class Steps:
    """Adam's steps on minibatches, in whichever mode was asked for or serves best.

    Args:
        loss: Of a batch, a scalar with a gradient.
        parameters: What to train.
        batch: The whole table.
        rates: The learning rate of every step to come; ``(steps,)``.
        mode: ``"eager"``, ``"graph"``, ``"inductor"`` or ``"auto"``.
        buffers: Other tensors of the model, which a capture must not change.

    Attributes:
        mode: What runs now; settled at the first step.
    """

    def __init__(
        self,
        loss: Loss,
        parameters: Sequence[Tensor],
        batch: RowSource,
        rates: Float[Tensor, " steps"],
        mode: str = "auto",
        buffers: Sequence[Tensor] = (),
    ) -> None:
        self.buffers = buffers
        self.loss, self.parameters, self.batch, self.rates = loss, parameters, batch, rates
        self.mode, self.done = mode, 0
        fused = all(p.device.type in ("cpu", "cuda") for p in parameters)
        self.optimiser = torch.optim.Adam(parameters, lr=rates[0].item(), fused=fused, betas=BETAS)
        self.captured: CapturedSteps | None = None

    def run(self, rows: Int[Tensor, "batches size"]) -> Iterator[float]:
        """The loss of each minibatch in turn, before its step; no step is taken where it is not finite."""
        if self.done == 0:
            # Not the first batch, which is the first that is checked: rows that the model keeps in Python then show.
            self._choose(self.batch.take(rows[-1]))
        at = 0
        if self.captured is not None:
            try:
                for loss in self.captured.run(rows, self.done):
                    yield loss.item()
                    at += 1
                    self.done += 1
            except CannotCapture as reason:
                self._give_up(reason)
            else:
                self.synchronise()
        for batch in map(self.batch.take, rows[at:]):
            yield self._eager(batch)
            self.done += 1

    def synchronise(self) -> None:
        """Let the model's own parameters be what was trained."""
        if self.captured is not None:
            write(self.parameters, self.captured.state.parameters)

    def _eager(self, batch: Batch) -> float:
        loss = self.loss(batch)
        value = loss.item()
        if math.isfinite(value):
            self.optimiser.param_groups[0]["lr"] = self.rates[self.done].item()
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
        return value

    def _choose(self, example: Batch) -> None:
        """Settle the mode, and say so in one line."""
        wanted, reason = self.mode, "as asked for"
        is_auto, device = wanted == "auto", example.x.device
        if is_auto:
            wanted, reason = best_mode(len(self.rates), device)
        self.mode = wanted
        if wanted != "eager":
            try:
                captured = capture(self.loss, self.parameters, example, self.buffers)
            except CannotCapture as cause:
                self.mode, reason = "eager", f"not captured: {cause}"
            else:
                self.captured = CapturedSteps(captured, self)
                if is_auto:
                    wanted, reason = best_mode(len(self.rates), device, captured)
                    self.mode = wanted
        if self.mode == "inductor" and self.captured is not None:
            try:
                self.captured.compile(len(example))
            except CannotCapture as cause:
                self.mode, reason = "graph", f"not compiled: {cause}"
        level = logging.INFO if self.mode == wanted else logging.WARNING
        log.log(level, "training steps: %s (%s)", self.mode, reason)

    def _give_up(self, cause: CannotCapture) -> None:
        """Go on by Python, where the captured steps are."""
        assert self.captured is not None
        log.warning("training steps: eager from step %d on (%s)", self.done + 1, cause)
        self.by_python_from(self.captured.state, self.done)

    def by_python_from(self, state: State, done: int) -> None:
        """Take over from captured steps, so many of them done, with Adam's memory."""
        self.mode, self.captured, self.done = "eager", None, done
        write(self.parameters, state.parameters)
        moments = (views(moment, self.parameters) for moment in (state.first, state.second))
        for parameter, first, second in zip(self.parameters, *moments, strict=True):
            step = torch.tensor(float(done), device=parameter.device)
            self.optimiser.state[parameter] = {"step": step, "exp_avg": first.clone(), "exp_avg_sq": second.clone()}


class CapturedSteps:
    """Steps by a captured graph; rows and noise are laid out for many steps at a time.

    Args:
        captured: The graph.
        of: Whose loss, parameters and rates these are.

    Attributes:
        state: Parameters and moments, as they are now.
    """

    def __init__(self, captured: Captured, of: Steps) -> None:
        self.captured, self.of, self.batch = captured, of, of.batch
        self.step = interpreted(captured)
        self.state = self._first_state()
        self.pairs = bias_corrected(of.rates).to(self.state.parameters)
        self.next_check = 0

    def compile(self, size: int) -> None:
        """Have inductor compile the step, for minibatches of this size.

        Raises:
            CannotCapture: If it cannot; the graph is then run as it is.
        """
        self.step = as_machine_code(self.captured, self.example(size))

    def example(self, size: int) -> list[Tensor]:
        """Inputs of a step, with zeros for noise: no generator moves."""
        theta, count = self.state.parameters, self.captured.num_random
        noise = [theta.new_zeros(1, *theta.shape[:-1], number) for number in count]
        return next(self._inputs(self._rows(size), 0, noise))

    def run(self, rows: Int[Tensor, "batches *members size"], done: int) -> Iterator[Tensor]:
        """The loss of each minibatch in turn.

        Raises:
            CannotCapture: If the first step's loss or gradient is not what Python makes of it; it is then not taken.
        """
        count = self._steps_per_chunk(rows)
        for start in range(0, len(rows), count):
            chunk = rows[start : start + count]
            for number, inputs in enumerate(self._inputs(chunk, done + start, self._noise(len(chunk)))):
                if start + number == 0 and done >= self.next_check:
                    self.next_check = done + STEPS_BETWEEN_CHECKS
                    yield self._checked(inputs, chunk[0])
                else:
                    yield self.step(inputs)

    def _first_state(self) -> State:
        theta = flat(self.of.parameters)
        return State(theta, torch.zeros_like(theta), torch.zeros_like(theta))

    def _rows(self, size: int) -> Int[Tensor, "1 size"]:
        return torch.arange(size, device=self.batch.device)[None]

    def _noise(self, steps: int) -> tuple[Tensor, Tensor]:
        return self.captured.noise(steps, self.state.parameters)

    def _steps_per_chunk(self, rows: Int[Tensor, "batches *members size"]) -> int:
        one = self.batch.take(rows.flatten()[:1]).of_rows().values()
        numbers = sum(value.numel() for value in one) * rows.shape[-1]
        return max(1, CHUNK_BYTES // (8 * (numbers + sum(self.captured.num_random))))

    def _inputs(
        self, rows: Int[Tensor, "steps *members size"], done: int, noise: Sequence[Tensor]
    ) -> Iterator[list[Tensor]]:
        """The inputs of several steps, in the order in which the graph takes them."""
        fields = [value.unflatten(0, rows.shape) for value in self.batch.take(rows.flatten()).of_rows().values()]
        stacked = [self.pairs[done : done + len(rows)], *noise, *fields]
        for varying in zip(*(tensor.unbind() for tensor in stacked), strict=True):
            yield [*self.state, *varying, *self.captured.constants]

    def _checked(self, inputs: list[Tensor], rows: Int[Tensor, "*members size"]) -> Tensor:
        """Take a step, after Python has computed its loss and gradient from the same numbers."""
        kept = [tensor.clone() for tensor in self.state]
        expected, gradient = self._by_python(rows, inputs[4], inputs[5])
        loss = self.step(inputs)
        moment = torch.lerp(kept[1], gradient, 1 - BETAS[0])
        # The first moment shows the gradient without the amplification that θ's own step has where it is tiny.
        pairs = {"loss": (loss, expected), "gradient": (self.state.first, moment)}
        wrong = [name for name, (got, own) in pairs.items() if differ(got, own)]
        if wrong and expected.isfinite().all():
            for tensor, value in zip(self.state, kept, strict=True):
                tensor.copy_(value)
            raise CannotCapture(f"the captured step's {' and '.join(wrong)} is not the model's own any more")
        return loss

    def _by_python(self, rows: Tensor, normal: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        write(self.of.parameters, self.state.parameters)
        return by_python(self.captured, self.of, self.batch.take(rows), normal, uniform)


def by_python(
    captured: Captured, steps: Steps, batch: Batch, normal: Float[Tensor, " _"], uniform: Float[Tensor, " _"]
) -> tuple[Float[Tensor, ""], Float[Tensor, " parameters"]]:
    """Loss and gradient of the model itself on a captured step's random numbers; moves no generator.

    Raises:
        CannotCapture: If the model draws other numbers than when it was captured.
    """
    with torch.random.fork_rng(devices=[]), captured.replayed(normal, uniform) as noise:
        result = loss_and_gradient(steps.loss, steps.parameters, batch)
    if tuple(noise.taken.values()) != captured.counts:
        raise CannotCapture("the model does not draw as many random numbers any more")
    return result


def best_mode(steps: int, device: torch.device, captured: Captured | None = None) -> tuple[str, str]:
    """What serves a run of so many steps best, and why: before a capture whether it pays, after it whether compiling
    does.
    """
    if captured is None:
        if device.type == "meta":
            return "eager", "nothing is computed on the meta device"
        if steps < STEPS_TO_CAPTURE:
            return "eager", f"{steps} steps are too few to pay for a capture"
        return "graph", f"{steps} steps pay for a capture"
    numbers = captured.num_results
    if steps < STEPS_TO_COMPILE / (1 + numbers / NUMBERS_TO_HALVE):
        return "graph", f"{steps} steps of {numbers:,} numbers pay for a capture, not for compiling"
    if device.type == "cpu" and (reason := no_compiler()) is not None:
        return "graph", reason
    return "inductor", f"{steps} steps of {numbers:,} numbers pay for compiling"


def write(parameters: Sequence[Tensor], theta: Float[Tensor, " numbers"]) -> None:
    """Copy numbers in one row into the parameters."""
    with torch.no_grad():
        for parameter, values in zip(parameters, views(theta, parameters), strict=True):
            parameter.copy_(values)
