"""Several initialisations of one fit, and what their spread says about identifiability.

Likelihoods of data missing not at random have several maxima, of which the best need not be the one that a start runs
into; and where two equally good maxima impute differently, the data do not decide between them (section 3, Definition
2.1).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from pyro.infer.autoguide import AutoGuide
from torch import nn

from pyro_mnar.batch import Batch
from pyro_mnar.evidence import log_evidence
from pyro_mnar.fitted import Fit
from pyro_mnar.imputation import encoded, impute
from pyro_mnar.isolation import Session, seeded
from pyro_mnar.parameters import mirrored_parameters
from pyro_mnar.table import Table

MOST_TOLERANCES = 10  # up to which two standard errors count; a difference too noisy to judge is not equality
PARTICLES = 100  # of the bounds by which initialisations are compared
NOTE = (
    "A wide spread of the imputed means at equal bound is a practical sign that the data do not identify them;"
    " a narrow one proves nothing."
)


class Start(NamedTuple):
    """One initialisation, before training.

    Attributes:
        model: The model, trained in place.
        guide: Its guide.
        seed: Of its minibatches and noise.
        store: Those of its parameters that no module owns, as the state of a parameter store.
        label: What to call it while it is trained.
    """

    model: Callable[[Batch], Any]
    guide: Callable[[Batch], Any]
    seed: int
    store: dict[str, Any] | None = None
    label: str = ""


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
) -> Fit:
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
    members = [trained.fit for trained in train(starts)]
    rows = []
    for member, fitted in enumerate(members):
        bound = log_evidence(fitted, judges, num_particles=PARTICLES, seed=seed).log_p
        rows.append({"member": member, "seed": starts[member].seed, **_mean_of(bound, column_of(fitted))})
    report = pd.DataFrame(rows)
    best = int(report[column_of(members[0])].fillna(-np.inf).to_numpy().argmax())
    report["kept"] = report["member"] == best

    kept = members[best]
    with Session(seed, kept.device).running():  # lets guides that make their parameters when first called make them
        _run_once(model, guide, table)
    for given, trained_module in ((model, kept.model), (guide, kept.guide)):
        if isinstance(given, nn.Module):
            given.load_state_dict(trained_module.state_dict())
    return Fit(model, guide, kept.schema, kept.history, _copied(kept.store, kept.model, kept.guide), report, members)


def copied_pair(
    model: Any, guide: Any, table: Table, store: dict[str, Any], seed: int
) -> tuple[tuple[Any, Any], dict[str, Any]]:
    """The pair copied, modules that both hold still shared, with the parameters that it keeps in Pyro's store copied
    too.

    Raises:
        ValueError: If parameters belong to a module that a plain function has used with ``pyro.module``.
    """
    memo: dict[int, Any] = {}
    of_guide = guide._model if isinstance(guide, AutoGuide) else None
    copied = copy.deepcopy((model, guide), memo)
    if of_guide is not None:  # Pyro's guides lose their model, original and copy both, when they are copied
        guide._model, copied[1]._model = of_guide, copy.deepcopy(of_guide, memo)
    session = Session(seed, Fit(model, guide, table.schema, store=store).device, _copied(store, model, guide))
    with session.running():
        _run_once(*copied, table)
    copied_store = _copied(session.store, *copied)
    for name, value in copied_store["params"].items():
        if isinstance(value, nn.Parameter) or "$$$" in name:
            raise ValueError(
                f"parameter {name!r}: belongs to a module inside a function, which cannot be copied: make the model (or"
                " guide) a torch Module that has it as an attribute"
            )
    return copied, copied_store


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


@dataclass(frozen=True)
class RestartSpread:
    """How far initialisations of one fit lie apart.

    Attributes:
        bounds: One row a member: ``bound`` in nats per row (standardised units), ``standard_error``, ``below_best``
            with the standard error of that paired difference, and whether it counts as ``equal`` to the best.
        means: Mean of the imputed values of each column, in the user's units; ``(members, incomplete columns)``.
        spread: One row a column: ``range`` of the imputed means over members with an equal bound, in the user's units,
            ``range_in_sd`` in standard deviations of the observed values, and the same over ``all`` members.
    """

    bounds: pd.DataFrame
    means: pd.DataFrame
    spread: pd.DataFrame

    def __repr__(self) -> str:
        equal = int(self.bounds["equal"].sum())
        return (
            f"bounds, nats per row ({equal} of {len(self.bounds)} equal to the best)\n{self.bounds.round(4)}\n\n"
            f"imputed means of columns\n{self.means.round(4)}\n\ntheir range\n{self.spread.round(4)}\n\n{NOTE}"
        )


def restart_spread(
    fit: Fit, table: Table | pd.DataFrame, *, num_particles: int = 200, tolerance: float = 0.005, seed: int = 0
) -> RestartSpread:
    """Compare the members of ``fit(restarts=R)`` by their bounds and by what they impute.

    Args:
        fit: What ``fit(restarts=R)`` returned.
        table: Rows to compare them on.
        num_particles: K, of bounds and of imputations.
        tolerance: Nats per row by which a bound may miss the best one and still count as equal; two standard errors of
            the difference if these are larger, up to ten times the tolerance.
        seed: Same seed, same numbers.

    Raises:
        ValueError: If the fit has no members, or the table no cell to impute.
    """
    if not fit.members:
        raise ValueError(
            "fit: expected one made with fit(..., restarts=R), got one without members (they are not saved)"
        )
    table = encoded(fit, table)
    bounds = bounds_of(fit.members, table, num_particles, tolerance, seed)
    means = pd.DataFrame(
        [imputed_means(member, table, num_particles=num_particles, seed=seed) for member in fit.members]
    )
    means.index.name = "member"
    return RestartSpread(bounds, means, spread_of(means, bounds["equal"], table))


def bounds_of(fits: list[Fit], table: Table, num_particles: int, tolerance: float, seed: int) -> pd.DataFrame:
    """Bounds of several fits on the same rows, and which are equal to the best; one row a fit."""
    log_p = np.stack([log_evidence(fit, table, num_particles=num_particles, seed=seed).log_p for fit in fits])
    below = log_p[log_p.mean(1).argmax()] - log_p
    frame = pd.DataFrame([_mean_of(row) for row in log_p])
    frame["below_best"], frame["below_best_error"] = below.mean(1), _errors(below)
    frame["equal"] = frame["below_best"] <= np.clip(
        2 * frame["below_best_error"], tolerance, MOST_TOLERANCES * tolerance
    )
    return frame.rename_axis("member")


def spread_of(means: pd.DataFrame, equal: pd.Series, table: Table) -> pd.DataFrame:
    """Range of the imputed means per column, over the members with an equal bound and over all."""
    units = pd.Series({column.name: column.std for column in table.schema.columns})[means.columns]
    chosen = means[equal.to_numpy()]
    ranges, over_all = chosen.max() - chosen.min(), means.max() - means.min()
    return pd.DataFrame(
        {"range": ranges, "range_in_sd": ranges / units, "range_all": over_all, "range_all_in_sd": over_all / units}
    ).rename_axis("column")


def imputed_means(fit: Fit, table: Table, *, num_particles: int = 200, seed: int = 0) -> pd.Series:
    """Mean over its gaps of each column's posterior means, in the user's units; ``(incomplete columns,)``.

    Raises:
        ValueError: If the table has no cell to impute.
    """
    imputations = impute(fit, table, num_draws=1, num_particles=num_particles, seed=seed)
    if not imputations.means.size:
        raise ValueError("table: expected a cell to impute, got none")
    columns = imputations.cells[1]
    names = table.schema.names
    return pd.Series({names[d]: imputations.means[columns == d].mean() for d in np.unique(columns)})


def member_seed(seed: int, member: int) -> int:
    """A seed of its own for every member; the first has the caller's."""
    return seed if member == 0 else int(np.random.SeedSequence([seed, member]).generate_state(1)[0])


def column_of(fit: Fit) -> str:
    """Whether a fit's history calls its numbers a bound."""
    return "objective" if "objective" in fit.history else "bound"


def _run_once(model: Any, guide: Any, table: Table) -> None:
    device = Fit(model, guide, table.schema).device
    few = table.source().take(torch.arange(min(len(table), 8))).to(device)
    with torch.no_grad():
        guide(few)
        model(few)


def _copied(store: dict[str, Any], *owners: Any) -> dict[str, Any]:
    """A parameter store without what it only mirrors; its tensors are new leaves."""
    mirrored = {name for module in owners for name in mirrored_parameters(module)}
    own = {name: value for name, value in store["params"].items() if name.replace("$$$", ".") not in mirrored}
    return {
        "params": {
            n: v if isinstance(v, nn.Parameter) else v.detach().clone().requires_grad_() for n, v in own.items()
        },
        "constraints": {name: store["constraints"][name] for name in own},
    }


def _noise(value: torch.Tensor) -> torch.Tensor:
    return torch.randn_like(value) / (value.shape[-1] ** 0.5 if value.dim() > 1 else 1.0)


def _mean_of(per_row: Any, name: str = "bound") -> dict[str, float]:
    return {name: float(per_row.mean()), "standard_error": float(_errors(per_row))}


def _errors(per_row: Any) -> Any:
    """Standard error of the mean over the last dimension."""
    count = per_row.shape[-1]
    return per_row.std(-1, ddof=1) / np.sqrt(count) if count > 1 else np.full(per_row.shape[:-1], np.inf)
