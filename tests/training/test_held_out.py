"""The bound of held-out rows by a captured graph is the objective's own, or Python computes it."""

from __future__ import annotations

import logging

import pytest
import torch

from checks import gina_pair, table_with_gaps
from pyro_mnar import Fit, ImportanceWeightedELBO
from pyro_mnar.capture.tracing import flat
from pyro_mnar.infer.session import Session
from pyro_mnar.tables.batch import Batch
from pyro_mnar.training import TrainingRun
from pyro_mnar.training.held_out import HeldOut


def run_of(batch_size: int, num_rows: int = 25, num_particles: int = 4) -> TrainingRun:
    """With rows that do not divide into equal groups: 9, 8 and 8 of 25 for a batch size of 10."""
    table = table_with_gaps(num_rows)
    pair = Fit(*gina_pair(table), table.schema)
    rows = table.source()
    return TrainingRun(
        pair, ImportanceWeightedELBO(num_particles), rows, rows, Session(0),
        learning_rate=1e-2, num_steps=10, batch_size=batch_size,
    )  # fmt: skip


@pytest.mark.parametrize("batch_size", [10, 100])
def test_the_graph_makes_of_the_same_numbers_what_the_objective_makes(batch_size):
    run = run_of(batch_size)
    held_out, parameters = run.held_out, run.optimisation.parameters
    with run.session.running():
        held_out.capture(parameters)
        with torch.no_grad():  # the parameters are inputs
            for parameter in parameters:
                parameter.mul_(1.1)
        captured, theta, size = held_out.captured, flat(parameters), len(held_out.groups[0])
        for number, group in enumerate(held_out.groups):
            rows = torch.cat([group, held_out.groups[0][: size - len(group)]])
            batch = run.table.take(rows)
            normal, uniform = (noise[0] for noise in captured.noise(1, theta))
            (got,) = captured(theta, normal, uniform, held_out._filled_up(number))
            with torch.no_grad(), captured.replayed(normal, uniform):
                loss = run.objective.differentiable_loss(run.fit.model, run.fit.guide, batch)
            torch.testing.assert_close(-got.sum(), loss / batch.size * size, rtol=1e-10, atol=1e-10)


def test_every_row_counts_once(monkeypatch):
    run = run_of(10)
    with run.session.running():
        run.held_out.capture(run.optimisation.parameters)
        captured = run.held_out.captured
        monkeypatch.setattr(captured.graph, "forward", lambda theta, normal, uniform, x, *_: (torch.ones(len(x)),))
        assert run.held_out.bound(run.optimisation.parameters) == 1.0


@pytest.mark.slow
def test_both_ways_estimate_the_same_bound():
    run = run_of(10, num_particles=3)
    held_out = run.held_out

    def estimates() -> torch.Tensor:
        return torch.tensor([held_out.bound(run.optimisation.parameters) for _ in range(200)])

    with run.session.running():
        by_python = estimates()
        held_out.capture(run.optimisation.parameters)
        by_graph = estimates()
    error = (by_python.var() / 200 + by_graph.var() / 200).sqrt()
    assert (by_python.mean() - by_graph.mean()).abs() < 5 * error  # a false alarm in two million


def test_what_cannot_be_captured_is_left_to_python(caplog):
    table = table_with_gaps()

    def bounds(batch: Batch) -> torch.Tensor:
        return batch.x.sum(-1) * (2.0 if batch.x.sum() > 0 else 1.0)

    held_out = HeldOut(bounds, table.source(), 100)
    expected = held_out.bound([])
    with caplog.at_level(logging.WARNING):
        held_out.capture([])
    assert caplog.messages[0].startswith("held-out bound: eager (not captured: ")
    assert held_out.bound([]) == expected


def test_rows_that_python_keeps_are_noticed(caplog):
    table = table_with_gaps()
    kept: list[torch.Tensor] = []

    def bounds(batch: Batch) -> torch.Tensor:
        kept.append(batch.x.detach().clone())
        return kept[0].sum(-1) if len(kept) < 3 else batch.x.sum(-1)

    held_out = HeldOut(bounds, table.source(), 20)
    with caplog.at_level(logging.WARNING):
        held_out.capture([])
    assert caplog.messages == ["held-out bound: eager (not captured: the graph's bound is not the model's own)"]
