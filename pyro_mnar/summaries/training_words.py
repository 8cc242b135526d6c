"""What a fit says of its training, in words: rows, epochs, the bound, particles, and what to mind."""

from __future__ import annotations

from collections.abc import Iterator

from pyro_mnar.training.fitted import Fit


def training_lines(fit: Fit) -> Iterator[str]:
    """One line each: the pair and its rows, the bound, the particles."""
    model, guide = (getattr(one, "__name__", type(one).__name__) for one in (fit.model, fit.guide))
    parts = [f"{fit.schema.num_columns} columns"]
    parts += [f"{fit.num_rows:,} rows"] if fit.num_rows else []
    parts += [f"{fit.epochs_done} epochs" + (", interrupted" if fit.interrupted else "")] if fit.epochs_done else []
    parts += [f"{len(fit.restarts)} starts"] if len(fit.restarts) else []
    parts += [f"{len(fit.bootstrap)} bootstrap fits"] if fit.bootstrap else []
    yield f"{model} with guide {guide}: {', '.join(parts)}"
    yield from _bounds(fit)
    gain = fit.particle_gain
    if gain is not None:
        yield (
            f"Particles: K = {gain.num_particles}; twice as many would add {gain.twice:.4f}, ten times as many"
            f" {gain.ten_times:.4f} nats per row to the bound"
        )


def training_warnings(fit: Fit) -> Iterator[str]:
    """What of the training makes its numbers doubtful, with the cure."""
    if fit.interrupted:
        yield f"interrupted after {fit.epochs_done} epochs, so not trained to the end: fit(..., start=this_fit) goes on"
    if fit.particle_gain is not None and fit.particle_gain.is_large:
        yield (
            "few particles pull mechanisms towards ignorable ones: fit(...,"
            f" num_particles={10 * fit.particle_gain.num_particles}), or a guide that proposes closer to the posterior"
        )
    if "objective" in fit.history:
        yield "the objective bounds no log-likelihood (β ≠ 1, parameters held at a point, or U = mask)"


def _bounds(fit: Fit) -> Iterator[str]:
    for name, words in (("bound", "Bound"), ("objective", "Objective, which bounds nothing")):
        if name in fit.history and len(fit.history):
            last = fit.history[name].tail(max(1, len(fit.history) // 10))
            told = f"{words}: {last.mean():.3f} nats per row over the last {len(last)} epochs, in standardised units"
            held_out = f"held_out_{name}"
            best = f"; held-out rows {fit.history[held_out].max():.3f} at best" if held_out in fit.history else ""
            yield told + best
