"""One training run apart from its steps: what is minimised, and what is kept of the epochs."""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from pyro_mnar.capture.tracing import in_one_line
from pyro_mnar.infer.coverage import check_claims
from pyro_mnar.infer.objective import ImportanceWeightedELBO
from pyro_mnar.infer.parameters import buffers_kept, module_parameters, trainable_parameters
from pyro_mnar.infer.row_scales import warn_of_row_scales
from pyro_mnar.infer.session import Session, random_numbers_kept
from pyro_mnar.infer.shared import check_sizes, refuse_joint
from pyro_mnar.tables.batch import Batch, RowSource, shuffled
from pyro_mnar.training.fitted import Fit
from pyro_mnar.training.held_out import HeldOut
from pyro_mnar.training.row_kinds import check_row_kinds
from pyro_mnar.training.stepper import CLIP, Optimisation
from pyro_mnar.training.telling_rows import telling_rows

_OF_SHAPES = re.compile("size of tensor|cannot be multiplied|cannot broadcast|shape mismatch")  # torch's words
_OF_DEVICES = re.compile("on the same device|on the expected device")
_SHAPES_OF_PYRO = re.compile(r"\s*\n *Trace Shapes:")
_OF_PARAMETERS = re.compile(r"Expected parameter (\w+) .*? of distribution (\w+)", re.DOTALL)
SHOWN_ROWS = 5  # that a message names
HUGE = 1e10  # no parameter of a model of standardised columns grows so large by learning
OF_RATE = "; where a large learning_rate led there, lower it and make both anew"
_WORDS = {"parameters": "parameters", "others": "buffers and frozen parameters"}


class TrainingError(ValueError):
    """The objective stopped being a number.

    Attributes:
        fit: What was fitted before, with the last good parameters.
    """

    def __init__(self, message: str, fit: Fit) -> None:
        super().__init__(message)
        self.fit = fit


class TrainingRun:
    """The state of one training run: random stream, history, best parameters.

    Args:
        fit: The pair to train, in place.
        objective: The bound.
        table: The rows to fit.
        validation: Rows that are held out, if there are any.
        session: The random stream, and the parameters that no module owns.
        learning_rate: Adam's, at the start; it falls to zero as a cosine.
        num_steps: Steps of the whole run.
        batch_size: The most rows of a minibatch.
        clip: How many times as long as usual a gradient may be; None for no limit.
        keeps_best: Whether the parameters of the best epoch are kept, or those of the last one.

    Attributes:
        column: What the history calls its numbers: ``bound``, or ``objective`` where they bound nothing.
        optimisation: What steps minimise.
        held_out: What evaluates the rows that are held out.
        history: One row an epoch.
        epochs_since_best: Epochs since the monitored bound was best.

    Raises:
        ValueError: If the table's type is not the model's, there is nothing to train, Pyro finds a wrong shape, or
            tensors of model or guide are on another device than the rows.
    """

    def __init__(
        self,
        fit: Fit,
        objective: ImportanceWeightedELBO,
        table: RowSource,
        validation: RowSource | None,
        session: Session,
        *,
        learning_rate: float,
        num_steps: int,
        batch_size: int,
        clip: float | None = CLIP,
        keeps_best: bool = True,
    ) -> None:
        self.fit, self.objective, self.table, self.session = fit, objective, table, session
        self.batch_size, self.keeps_best = batch_size, keeps_best
        self.column = "bound" if self._is_bound() else "objective"
        self.optimisation = self._optimisation(learning_rate, num_steps, clip)
        self.held_out = None if validation is None else HeldOut(self._bounds, validation, batch_size)
        self.history: list[dict[str, float]] = []
        self.epochs_since_best = 0
        self._best, self._monitored = -math.inf, math.nan
        self._kept, self._has_best = self._parameters(), False

    def shuffled(self) -> Int[Tensor, "batches size"]:
        """Rows of the minibatches of the next pass."""
        return shuffled(len(self.table), self.batch_size, self.session.generator).to(self.table.device)

    def record(self, value: float, start: float) -> None:
        """Note a finished epoch that began at a time, and keep the parameters if they are the best so far."""
        row = {"epoch": len(self.history) + 1, self.column: value}
        if self.held_out is not None:
            with self.session.running():
                row[f"held_out_{self.column}"] = self.held_out.bound(self.optimisation.parameters)
        row["seconds"] = time.perf_counter() - start
        self.history.append(row)
        self._monitor(row)

    def fail(self, rows: Int[Tensor, " size"], number: int, loss: float) -> NoReturn:
        """Name the site, and put the last good parameters back."""
        with self.session.running():
            site = next(self._sites_not_finite(self.table.take(rows)), "none when run again")
        is_lost = any(bool((values.abs() > HUGE).any()) for values in self._parameters())
        self._restore()
        raise TrainingError(
            f"epoch {len(self.history) + 1}, batch {number}: the objective is {-loss}; offending site: {site}"
            f"{OF_RATE if is_lost else ''}",
            self.result(),
        )

    def finish(self) -> None:
        """Put the best parameters back; the last ones stay if no epoch was finished."""
        if self._has_best and self.keeps_best:
            self._restore()

    def result(self) -> Fit:
        """The fit, with history and store."""
        self.fit.history = pd.DataFrame(self.history)
        self.fit.store = self.session.store
        return self.fit

    def state(self) -> dict[str, Any]:
        """All of the run but its steps: numbers, words and copies of tensors."""
        return {
            "parameters": self._parameters(),
            "others": [tensor.detach().clone() for tensor in self._others()],
            "kept": self._kept,
            "has_best": self._has_best,
            "random": self.session.random_state(),
            "history": list(self.history),
            "epochs_since_best": self.epochs_since_best,
            "best": self._best,
            "monitored": self._monitored,
            "held_out_captured": self.held_out is not None and self.held_out.captured is not None,
        }

    def put(self, state: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state` of a run of the same pair, table and settings.

        Raises:
            ValueError: If model or guide has other parameters.
        """
        for what, own in (("parameters", self.optimisation.parameters), ("others", self._others())):
            shapes = [[tuple(tensor.shape) for tensor in tensors] for tensors in (state[what], own)]
            if shapes[0] != shapes[1]:
                raise ValueError(
                    f"resume: expected a model and a guide made as those of the checkpoint, whose {_WORDS[what]} have"
                    f" shapes {shapes[0]}, got {shapes[1]}"
                )
            with torch.no_grad():
                for tensor, value in zip(own, state[what], strict=True):
                    tensor.copy_(value)
        self._kept = [value.to(own.device) for value, own in zip(state["kept"], self._kept, strict=True)]
        self._has_best = state["has_best"]
        self.session.put_random_state(state["random"])
        self.history = list(state["history"])
        self.epochs_since_best = state["epochs_since_best"]
        self._best, self._monitored = state["best"], state["monitored"]

    def capture_held_out(self) -> None:
        """Evaluate rows that are held out, if any are, by a graph from now on; the log says if there is none."""
        if self.held_out is not None:
            with self.session.running():
                self.held_out.capture(self.optimisation.parameters, self.optimisation.buffers)

    def _others(self) -> list[Tensor]:
        """What may differ between two models made alike, although nobody trains it: buffers, frozen parameters."""
        frozen = [one for one in module_parameters(self.fit.model, self.fit.guide) if not one.requires_grad]
        return [*self.optimisation.buffers, *frozen]

    def _is_bound(self) -> bool:
        """Run the pair once under Pyro's validation, so that a wrong shape fails now and by name."""
        parameters = module_parameters(self.fit.model, self.fit.guide)
        if parameters and parameters[0].dtype != self.table.dtype:
            raise ValueError(
                f"expected the table's type to be the model's, {parameters[0].dtype}, got {self.table.dtype}: make"
                f" the table with dtype={parameters[0].dtype}"
            )
        self._check_finite()
        few = self.table.take(torch.arange(min(len(self.table), 8), device=self.table.device))
        incomplete = [at for at, column in enumerate(self.fit.schema.columns) if column.incomplete]
        with self.session.running(validate=self.table.device.type != "meta"):
            try:
                with _refusals_in_one_line(few):
                    run = self.objective.particles(self.fit.model, self.fit.guide, few)
            except RuntimeError as error:
                if _OF_DEVICES.search(str(error)):
                    raise ValueError(
                        f"device: model or guide holds tensors that are not on {str(self.table.device)!r}: let modules"
                        " hold them as parameters or buffers, and make others where the rows are, such as by"
                        f" batch.x.new_zeros(3) ({in_one_line(error)})"
                    ) from error
                if not _OF_SHAPES.search(str(error)):
                    raise
                raise ValueError(
                    f"model and guide cannot be run on {len(few)} rows of the table: {in_one_line(error)}"
                ) from error
            self.objective.settle(self.fit.model, self.fit.guide, few)
            refuse_joint(self.fit.guide)
            if len(few) > 1:
                check_sizes(self.fit.model, few, few.take(torch.arange(len(few) - 1, device=few.device)))
        check_claims(run.model_trace, few, incomplete)
        check_row_kinds(run.model_trace, self.fit.schema)
        warn_of_row_scales(run.model_trace, run.scale, self.objective.plate)
        self._check_supports()
        uses_mask_twice = self.fit.schema.auxiliary_source == "mask"
        return run.is_bound and not uses_mask_twice

    def _check_supports(self) -> None:
        """Run the pair under validation on rows that hold the extremes of each column; draws no random numbers."""
        if self.table.device.type == "meta":
            return
        once = ImportanceWeightedELBO(1, max_plate_nesting=self.objective.max_plate_nesting)
        kept = buffers_kept(self.fit.model, self.fit.guide)
        with kept, self.session.running(validate=True), random_numbers_kept():
            first = torch.arange(min(len(self.table), 8), device=self.table.device)  # a batch norm needs two rows
            chosen = torch.cat([first, telling_rows(self.table)]).unique()
            for rows in chosen.tensor_split(-(-len(chosen) // self.batch_size)):
                batch = self.table.take(rows)
                with _refusals_in_one_line(batch):
                    once.particles(self.fit.model, self.fit.guide, batch)

    def _check_finite(self) -> None:
        """Refuse parameters that are no numbers before anything is trained; names the first."""
        for role, module in (("model", self.fit.model), ("guide", self.fit.guide)):
            for name, value in module.named_parameters() if isinstance(module, nn.Module) else ():
                if not (value.is_meta or bool(value.isfinite().all())):
                    raise ValueError(
                        f"{role}: expected finite parameters to start from, got {_first_of(value)} in {name!r}: make it"
                        " anew"
                    )

    def _optimisation(self, learning_rate: float, num_steps: int, clip: float | None) -> Optimisation:
        with self.session.running():
            parameters = trainable_parameters(self.fit.model, self.fit.guide)
        if not parameters:
            raise ValueError("model and guide have no parameters to train")
        progress = torch.arange(num_steps, dtype=torch.float64) / num_steps
        rates = learning_rate * 0.5 * (1 + torch.cos(math.pi * progress))  # a cosine from the given rate to zero
        modules = [module for module in (self.fit.model, self.fit.guide) if isinstance(module, nn.Module)]
        buffers = [buffer for module in modules for buffer in module.buffers()]
        size = shuffled(len(self.table), self.batch_size, torch.Generator()).shape[1]
        return Optimisation(self._loss, parameters, self.table, size, rates, buffers, clip)

    def _loss(self, batch: Batch) -> Tensor:
        return self.objective.differentiable_loss(self.fit.model, self.fit.guide, batch) / batch.size

    def _bounds(self, batch: Batch) -> Float[Tensor, " rows"]:
        """The estimate of every row's bound, times its weight."""
        log_weights = self.objective.log_weights(self.fit.model, self.fit.guide, batch)
        bounds = log_weights.logsumexp(0) - math.log(len(log_weights))
        return bounds if batch.weight is None else batch.weight * bounds

    def _monitor(self, row: dict[str, float]) -> None:
        """Keep the parameters if the held-out bound, or the running mean of the training bound, is the best so far."""
        if self.held_out is not None:
            self._monitored = row[f"held_out_{self.column}"]
        else:
            value = row[self.column]
            self._monitored = value if math.isnan(self._monitored) else 0.8 * self._monitored + 0.2 * value
        self.epochs_since_best += 1
        if self._monitored > self._best:
            self._best, self.epochs_since_best = self._monitored, 0
            self._kept, self._has_best = self._parameters(), True

    def _parameters(self) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in self.optimisation.parameters]

    def _restore(self) -> None:
        """Let the parameters be what was kept: the best ones, or those at the start."""
        with torch.no_grad():
            for parameter, value in zip(self.optimisation.parameters, self._kept, strict=True):
                parameter.copy_(value)

    def _sites_not_finite(self, batch: Batch) -> Iterator[str]:
        run = self.objective.particles(self.fit.model, self.fit.guide, batch)
        for trace in (run.guide_trace, run.model_trace):
            for name, site in trace.nodes.items():
                if site["type"] != "sample" or not isinstance(site["value"], Tensor):
                    continue
                value = site["value"]
                if not value.isfinite().all():
                    is_bad = ~value.isfinite().reshape(*value.shape[: value.dim() - site["fn"].event_dim], -1).all(-1)
                    yield f"{name!r}, whose value is not finite{_in_rows(is_bad, batch)}"
                elif not (log_prob := site["fn"].log_prob(value)).isfinite().all():
                    yield f"{name!r}, whose log-probability is not finite{_in_rows(~log_prob.isfinite(), batch)}"


@contextlib.contextmanager
def _refusals_in_one_line(batch: Batch) -> Iterator[None]:
    """Say in one line what torch says in many, with all numbers, of those that a distribution cannot have.

    Of an error that says itself in one line, the shapes that Pyro adds stay with its cause.
    """
    try:
        yield
    except ValueError as error:
        told, *of_pyro = _SHAPES_OF_PYRO.split(str(error), maxsplit=1)
        refused = _OF_PARAMETERS.match(told)
        if refused is None:
            if of_pyro and "\n" not in told:
                raise ValueError(told) from error
            raise
        name, family = refused.groups()
        raise ValueError(
            f"model and guide cannot be run on {len(batch)} rows of the table: for the {name} of {family} came numbers"
            f" that cannot be, such as NaN{OF_RATE}"
        ) from error


def _first_of(values: Tensor) -> float:
    """The first that is not finite."""
    return values[~values.isfinite()][0].item()


def _in_rows(is_bad: Tensor, batch: Batch) -> str:
    """In which rows of the table, by position, if the last dimension is that of the rows."""
    if not is_bad.dim() or is_bad.shape[-1] != len(batch):
        return ""
    found = batch.index[is_bad.reshape(-1, len(batch)).any(0)].unique().tolist()
    return f" in rows {found[:SHOWN_ROWS]} (by position, from 0)" + (
        f" and {n} more" if (n := len(found) - SHOWN_ROWS) > 0 else ""
    )
