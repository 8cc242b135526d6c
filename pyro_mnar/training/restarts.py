"""Several initialisations of one fit, of which the best is kept.

Likelihoods of data missing not at random have several maxima, of which the best need not be the one that a start runs
into.  What their spread says stands in :mod:`pyro_mnar.diagnostics.spread`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyro.poutine as poutine
import torch
from jaxtyping import Float
from torch import Tensor, nn

from pyro_mnar.infer.parameters import IN_NETWORK
from pyro_mnar.infer.session import Session, seeded
from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.table import Table
from pyro_mnar.training.copies import copied_modules, copied_store
from pyro_mnar.training.evidence import log_evidence, mean_and_error, row_weights
from pyro_mnar.training.fitted import Fit

PARTICLES = 100  # of the bounds by which initialisations are compared


class Start(NamedTuple):
    """One initialisation, before training.

    Attributes:
        model: The model, trained in place.
        guide: Its guide.
        seed: Of its minibatches and noise.
        store: Those of its parameters that no module owns, as the state of a parameter store.
        label: What to call it while it is trained.
        weight: How often each row counts, if otherwise than in the table; ``(rows,)``.
    """

    model: Callable[[Batch], Any]
    guide: Callable[[Batch], Any]
    seed: int
    store: dict[str, Any] | None = None
    label: str = ""
    weight: Float[Tensor, " rows"] | None = None


class Trained(NamedTuple):
    """A fit, and whether Ctrl-C ended it early."""

    fit: Fit
    interrupted: bool


def best_of(
    count: int,
    train: Callable[[list[Start]], list[Trained]],
    model: Callable[[Batch], Any],
    guide: Callable[[Batch], Any],
    table: Table,
    judges: Table,
    seed: int,
) -> Trained:
    """Train the pair as given and ``count - 1`` redrawn copies of it; the best one's parameters go into the objects
    given.

    Args:
        count: R.
        train: Trains initialisations in place; returns fewer if it was interrupted.
        model: The model.
        guide: Its guide.
        table: The rows to fit.
        judges: The rows by whose bound the best is chosen.
        seed: Of the first initialisation, and the root of the others' seeds.

    Raises:
        ValueError: If parameters belong to a module that a plain function has used with ``pyro.module``.
    """
    starts = []
    for member in range(count):
        own = member_seed(seed, member)
        copied, store = copied_pair(model, guide, table, {"params": {}, "constraints": {}}, own)
        if member:
            redraw(copied, store, own)
        starts.append(Start(*copied, own, store if member else None, f"start {member + 1} of {count}"))
    done = train(starts)
    members, interrupted = [trained.fit for trained in done], any(trained.interrupted for trained in done)
    rows, weight = [], row_weights(judges)
    for member, fitted in enumerate(members):
        bound = log_evidence(fitted, judges, num_particles=PARTICLES, seed=seed).log_p
        told = mean_and_error(bound, column_of(fitted), weight)
        rows.append({"member": member, "seed": starts[member].seed, **told})
    report = pd.DataFrame(rows)
    best = int(report[column_of(members[0])].fillna(-np.inf).to_numpy().argmax())
    report["kept"] = report["member"] == best

    kept = members[best]
    with Session(seed, kept.device).running():  # lets guides that make their parameters when first called make them
        _run_once(model, guide, table)
    for given, best_module in ((model, kept.model), (guide, kept.guide)):
        if isinstance(given, nn.Module):
            given.load_state_dict(best_module.state_dict())
    store = copied_store(kept.store, kept.model, kept.guide)
    fitted = Fit(model, guide, kept.schema, kept.history, store, report, members, interrupted=interrupted)
    return Trained(fitted, interrupted)


def copied_pair(
    model: Any, guide: Any, table: Table, store: dict[str, Any], seed: int
) -> tuple[tuple[Any, Any], dict[str, Any]]:
    """The pair copied, modules that both hold still shared, with the parameters that it keeps in Pyro's store copied
    too.

    Raises:
        ValueError: If parameters belong to a module that a plain function has used with ``pyro.module``.
    """
    copied = copied_modules(model, guide)
    session = Session(seed, Fit(model, guide, table.schema, store=store).device, copied_store(store, model, guide))
    with session.running():
        _run_once(*copied, table)
    of_copies = copied_store(session.store, *copied)
    for name, value in of_copies["params"].items():
        if isinstance(value, nn.Parameter) or IN_NETWORK in name:
            raise ValueError(
                f"parameter {name!r}: belongs to a module inside a function, which cannot be copied: make the model (or"
                " guide) a torch Module that has it as an attribute"
            )
    return copied, of_copies


def redraw(modules: tuple[Any, ...], store: dict[str, Any], seed: int) -> None:
    """Draw parameters anew: by a module's ``reset_parameters()``, or else by noise of size one on the unconstrained
    scale.

    Inner modules come first, so that an outer one's ``reset_parameters`` has the last word; noise on a matrix is
    divided by the root of its width, as networks are initialised.
    """
    seen: set[int] = set()
    with seeded(seed), torch.no_grad():
        for outer in modules:
            inside = list(outer.modules()) if isinstance(outer, nn.Module) else []
            for module in (m for m in reversed(inside) if id(m) not in seen):
                seen.add(id(module))
                own = list(module.parameters(recurse=False))
                if own and not any(parameter.requires_grad for parameter in own):
                    continue  # frozen: it is not trained, so it is not redrawn
                reset = getattr(module, "reset_parameters", None)
                if callable(reset):
                    reset()
                    continue
                for parameter in (p for p in own if p.requires_grad):
                    parameter.add_(_noise(parameter))
        for value in store["params"].values():
            value.add_(_noise(value))


def member_seed(seed: int, member: int) -> int:
    """A seed of its own for every member; the first has the caller's."""
    return seed if member == 0 else int(np.random.SeedSequence([seed, member]).generate_state(1)[0])


def column_of(fit: Fit) -> str:
    """Whether a fit's history calls its numbers a bound."""
    return "objective" if "objective" in fit.history else "bound"


def _run_once(model: Any, guide: Any, table: Table) -> None:
    device = Fit(model, guide, table.schema).device
    few = table.source().take(torch.arange(min(len(table), 8))).to(device)
    with torch.no_grad(), poutine.block():  # within a handler, for Pyro warns of what is observed outside of all
        guide(few)
        model(few)


def _noise(value: torch.Tensor) -> torch.Tensor:
    return torch.randn_like(value) / (value.shape[-1] ** 0.5 if value.dim() > 1 else 1.0)
