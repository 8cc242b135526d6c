"""One training run: its epochs, what is kept of them, and what is said when the objective stops being a number."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import NoReturn

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from pyro_mnar.infer.objective import ImportanceWeightedELBO
from pyro_mnar.infer.parameters import module_parameters, trainable_parameters
from pyro_mnar.infer.session import Session
from pyro_mnar.tables.batch import Batch, RowSource, shuffled
from pyro_mnar.training.fitted import Fit
from pyro_mnar.training.held_out import HeldOut
from pyro_mnar.training.steps import Steps


class TrainingError(ValueError):
    """The objective stopped being a number.

    Attributes:
        fit: What was fitted before, with the last good parameters.
    """

    def __init__(self, message: str, fit: Fit) -> None:
        super().__init__(message)
        self.fit = fit


class Trainer:
    """State of one training run: steps, random stream, best parameters, history."""

    def __init__(
        self,
        fit: Fit,
        objective: ImportanceWeightedELBO,
        batch: RowSource,
        validation: RowSource | None,
        session: Session,
    ) -> None:
        self.fit, self.objective, self.batch, self.validation = fit, objective, batch, validation
        self.session = session
        self.history: list[dict[str, float]] = []
        self.best, self.epochs_since_best, self.monitored = -math.inf, 0, math.nan
        self.snapshot: list[Tensor] | None = None
        self.last_good: list[Tensor] = []
        self.held_out: HeldOut | None = None

    def check(self) -> None:
        """Run the pair once under Pyro's validation, so that a wrong shape fails now and by name."""
        parameters = module_parameters(self.fit.model, self.fit.guide)
        if parameters and parameters[0].dtype != self.batch.dtype:
            raise ValueError(
                f"expected the table's type to be the model's, {parameters[0].dtype}, got {self.batch.dtype}: make"
                f" the table with dtype={parameters[0].dtype}"
            )
        few = self.batch.take(torch.arange(min(len(self.batch), 8), device=self.batch.device))
        with self.session.running(validate=self.batch.device.type != "meta"):
            is_bound = self.objective.is_bound(self.fit.model, self.fit.guide, few)
        uses_mask_twice = self.fit.schema.auxiliary_source == "mask"
        self.column = "bound" if is_bound and not uses_mask_twice else "objective"

    def prepare(self, learning_rate: float, steps: int, mode: str, batch_size: int) -> None:
        """Make the optimiser, and what evaluates the rows that are held out."""
        with self.session.running():
            self.parameters = trainable_parameters(self.fit.model, self.fit.guide)
        if not self.parameters:
            raise ValueError("model and guide have no parameters to train")
        self.last_good = _copies(self.parameters)
        progress = torch.arange(steps, dtype=torch.float64) / steps
        rates = learning_rate * 0.5 * (1 + torch.cos(math.pi * progress))  # a cosine from the given rate to zero
        buffers = [b for m in (self.fit.model, self.fit.guide) if isinstance(m, nn.Module) for b in m.buffers()]
        self.steps = Steps(self._loss, self.parameters, self.batch, rates, mode, buffers)
        if self.validation is not None:
            self.held_out = HeldOut(self._bounds, self.validation, batch_size)

    def shuffled(self, batch_size: int) -> Int[Tensor, "batches size"]:
        """Rows of the minibatches of one pass."""
        return shuffled(len(self.batch), batch_size, self.session.generator).to(self.batch.device)

    def epoch(self, batch_size: int) -> float:
        """One pass over the table; returns the estimate of the bound per row, in nats."""
        return self.epoch_of(self.shuffled(batch_size), batch_size)

    def epoch_of(self, rows: Int[Tensor, "batches size"], batch_size: int) -> float:
        """One pass in a given order."""
        start, losses = time.perf_counter(), []
        with self.session.running():
            for loss in self.steps.run(rows):
                losses.append(loss)
                if not math.isfinite(loss):
                    break
        if not math.isfinite(losses[-1]):
            self.fail(rows[len(losses) - 1], len(losses) - 1, losses[-1])
        return self.record(-sum(losses) / len(rows), start)

    def record(self, value: float, start: float) -> float:
        """Note a finished epoch that began at a time, and keep the parameters if they are the best so far."""
        row = {"epoch": len(self.history) + 1, self.column: value}
        if self.held_out is not None:
            with self.session.running():
                row[f"held_out_{self.column}"] = self._held_out(self.held_out)
        row["seconds"] = time.perf_counter() - start
        self.history.append(row)
        self._monitor(row)
        return value

    def fail(self, rows: Int[Tensor, " size"], number: int, loss: float) -> NoReturn:
        """Name the site, and put the last good parameters back."""
        self.steps.synchronise()
        with self.session.running():
            site = next(self._sites_not_finite(self.batch.take(rows)), "none when run again")
        self._restore(self.snapshot or self.last_good)
        raise TrainingError(
            f"epoch {len(self.history) + 1}, batch {number}: the objective is {-loss}; offending site: {site}",
            self.result(),
        )

    def finish(self) -> None:
        """Put the best parameters back, or the last ones if no epoch was finished."""
        self.steps.synchronise()
        if self.snapshot is not None:
            self._restore(self.snapshot)

    def result(self) -> Fit:
        """The fit, with history and store."""
        self.fit.history = pd.DataFrame(self.history)
        self.fit.store = self.session.store
        return self.fit

    def _loss(self, batch: Batch) -> Tensor:
        return self.objective.differentiable_loss(self.fit.model, self.fit.guide, batch) / batch.size

    def _bounds(self, batch: Batch) -> Float[Tensor, " rows"]:
        """The estimate of every row's bound."""
        run = self.objective.particles(self.fit.model, self.fit.guide, batch)
        factor = run.scale * len(batch) / batch.size
        return factor * (run.log_weights.logsumexp(0) - math.log(len(run.log_weights)))

    def _held_out(self, held_out: HeldOut) -> float:
        if self.steps.mode == "eager":
            held_out.captured = None  # what cannot be trusted in a step cannot be trusted here
        elif self.steps.captured is not None and not self.history:
            held_out.capture(self.parameters, self.steps.buffers)
        return held_out.bound(self.parameters)

    def _monitor(self, row: dict[str, float]) -> None:
        """Keep the parameters if the held-out bound, or the running mean of the training bound, is the best so far."""
        if self.held_out is not None:
            self.monitored = row[f"held_out_{self.column}"]
        else:
            value = row[self.column]
            self.monitored = value if math.isnan(self.monitored) else 0.8 * self.monitored + 0.2 * value
        self.epochs_since_best += 1
        if self.monitored > self.best:
            self.best, self.epochs_since_best = self.monitored, 0
            self.snapshot = _copies(self.parameters)

    def _restore(self, values: list[Tensor]) -> None:
        with torch.no_grad():
            for parameter, value in zip(self.parameters, values, strict=True):
                parameter.copy_(value)

    def _sites_not_finite(self, batch: Batch) -> Iterator[str]:
        run = self.objective.particles(self.fit.model, self.fit.guide, batch)
        for trace in (run.guide_trace, run.model_trace):
            for name, site in trace.nodes.items():
                if site["type"] != "sample" or not isinstance(site["value"], Tensor):
                    continue
                if not site["value"].isfinite().all():
                    yield f"{name!r}, whose value is not finite"
                elif not site["fn"].log_prob(site["value"]).isfinite().all():
                    yield f"{name!r}, whose log-probability is not finite"


def _copies(parameters: list[Tensor]) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in parameters]
