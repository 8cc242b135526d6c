"""The parts of a report that follow from a table, a fit and its imputations."""

from __future__ import annotations

import platform
from collections.abc import Hashable, Mapping
from importlib import metadata
from typing import Any

import numpy as np
import pandas as pd

from pyro_mnar.imputation.imputations import Imputations
from pyro_mnar.imputation.ranges import far_beyond_seen, negative_where_none_was
from pyro_mnar.imputation.target import Target
from pyro_mnar.reports.rendering import Block, Listing, Picture, Section
from pyro_mnar.tables.table import Table
from pyro_mnar.training.fitted import Fit
from pyro_mnar.training.fitted_graph import graph_of_fit

MOST_PATTERNS = 10
MOST_PICTURES = 12
FEW_PARTICLES = 10  # effective sample size below which draws of a row repeat values
LIBRARIES = ("pyro-mnar", "torch", "pyro-ppl", "numpy", "pandas", "scipy")


def missing_data(table: Table) -> Section:
    """What is missing, by column, code and pattern (STROBE 12c and 13)."""
    mask, applicable = table.mask.numpy(), table.applicable.numpy()
    gaps, modelled = ~mask & applicable, table.mask_modelled.numpy()
    names = table.schema.names
    rows = {}
    for at, name in enumerate(names):
        codes = table.codes[name].value_counts() if name in table.codes.columns else {}
        rows[str(name)] = {
            "kind": table.schema.columns[at].kind.name,
            "missing": int(gaps[:, at].sum()),
            "percent": 100.0 * gaps[:, at].sum() / max(1, applicable[:, at].sum()),
            "not explained by the mechanism": int((gaps[:, at] & ~modelled[:, at]).sum()),
            "not applicable": int((~applicable[:, at]).sum()),
            "codes": ", ".join(f"{code}: {count}" for code, count in dict(codes).items()),
        }
    by_column = pd.DataFrame.from_dict(rows, orient="index").rename_axis("column")
    patterns: pd.Series = pd.Series(
        [", ".join(str(names[at]) for at in np.flatnonzero(row)) or "nothing" for row in gaps]
    ).value_counts()
    shown = patterns.head(MOST_PATTERNS).rename_axis("missing together").rename("rows").reset_index()
    complete, auxiliary = int((~gaps.any(1)).sum()), [str(u.name) for u in table.schema.auxiliaries]
    blocks: list[Block] = [
        f"{len(table)} rows, {len(names)} {'column' if len(names) == 1 else 'columns'}; {complete} rows"
        f" ({complete / len(table):.1%}) lack nothing. Of all {int(applicable.sum())} applicable cells"
        f" {int(gaps.sum())} ({gaps.sum() / max(1, applicable.sum()):.1%}) are missing.",
        by_column,
        "The most frequent patterns:" if len(patterns) > len(shown) else "All patterns:",
        shown,
    ]
    if auxiliary:
        blocks.append(f"Auxiliary, always observed and conditioned on: {', '.join(auxiliary)}.")
    return Section("Missing data", tuple(blocks))


def assumptions(fit: Fit, table: Table, imputations: Imputations) -> Section:
    """Why values are missing, as the model has it, in words and drawn."""
    model, guide = (getattr(part, "__name__", type(part).__name__) for part in (fit.model, fit.guide))
    blocks: list[Block] = [f"Imputation model: {model}; proposals for its latent variables: {guide}."]
    graph = graph_of_fit(fit, table)
    if graph is None:
        blocks.append(
            "No missingness graph can be read off this model: it does not say why values are missing. Its imputations"
            " are right where that has nothing to do with the missing values, given what is observed (MAR)."
        )
    if graph is not None:
        kind = graph.kind()
        meaning = {
            "MCAR": "completely at random: nothing that was measured or not measured decides what is seen",
            "MAR": "at random: only what is always observed decides what is seen, so the mechanism can be ignored",
            "MNAR": "not at random: what is seen depends on what is missing itself, so the mechanism is modelled",
        }
        blocks.append(f"Values are assumed to be missing {meaning[kind.overall]}.")
        lines = []
        for column, (of_column, reason) in kind.columns.items():
            causes = ", ".join(map(str, graph.parents(column))) or "nothing"
            lines.append(f"{column}: whether it is seen depends on {causes}. {of_column}, for {reason}.")
        blocks.append(Listing("\n".join(lines)))
        blocks.append(Picture.of(graph.plot(), "Missingness graph: arrows lead from causes to what they cause."))
        blocks.append(
            "The data cannot confirm these assumptions: graphs can agree on what is observed and differ in what is not."
        )
    if imputations.target is Target.GIVEN_MASK:
        blocks.append("Missing values were drawn given that they were withheld, p(X_u | X_o, R).")
    else:
        blocks.append(f"Missing values were drawn from {imputations.target.value}: tables completed so are biased.")
    return Section("Assumptions", tuple(blocks))


def software(settings: Mapping[str, Any], seeds: Mapping[str, Any]) -> pd.DataFrame:
    """Versions, settings and seeds, a row each."""
    told: dict[str, Any] = {"python": platform.python_version()}
    told |= {name: metadata.version(name) for name in LIBRARIES}
    told |= {**settings, **{f"seed of {what}": seed for what, seed in seeds.items()}}
    return pd.DataFrame({"": [_text(value) for value in told.values()]}, index=list(told))


def computation(fit: Fit, imputations: Imputations, seeds: Mapping[str, Any]) -> Section:
    """Software, training, draws and seeds: what it takes to do it again."""
    settings: dict[str, Any] = {"draws": imputations.num_draws}
    number = next((name for name in ("bound", "objective") if name in fit.history), None)
    if number is not None:
        settings |= {"epochs": len(fit.history), f"{number} at the end, nats per row": fit.history[number].iloc[-1]}
    own = (
        "Every draw is from a fit of its own to bootstrap weights of the rows."
        if imputations.from_bootstrap
        else "Every draw has parameters of its own from their posterior."
        if imputations.from_posterior
        else "Every draw was made at the same parameters: intervals leave their uncertainty out and are too narrow."
    )
    blocks: list[Block] = [software(settings, seeds), own]
    if not seeds:
        blocks.append("Seeds were not noted.")
    if number is not None and len(fit.history) > 1:
        blocks.append(Picture.of(_curve(fit.history, number), f"Training: the {number} by epoch."))
    return Section("Computation", tuple(blocks))


def imputed_values(imputations: Imputations) -> Section:
    """Observed values beside imputed ones, by column."""
    table, at_column = imputations.table, imputations.cells[1]
    numbers, levels, pictures = {}, [], []
    for at in np.unique(at_column).tolist():
        column = table.schema.columns[at]
        seen = column.decode(table.x[:, at].numpy()[table.mask[:, at].numpy()])
        drawn = imputations.draws[:, at_column == at]
        drawn = drawn[~np.isnan(drawn)]  # where draws say that there is no value
        if not len(drawn):
            continue
        if column.kind.has_levels:
            codes = [column.kind.codes(values.ravel()) for values in (seen, drawn)]
            count = len(column.kind.levels)
            shares = [np.bincount(code, minlength=count) / max(1, len(code)) for code in codes]
            for level, one, other in zip(column.kind.levels, *shares, strict=True):
                levels.append({"column": str(column.name), "level": str(level), "observed": one, "imputed": other})
        else:
            numbers[str(column.name)] = {
                "observed mean": seen.mean(),
                "observed sd": seen.std(),
                "imputed mean": drawn.mean(),
                "imputed sd": drawn.std(),
                "imputed - observed, in sd": (drawn.mean() - seen.mean()) / (seen.std() or 1.0),
            }
            if len(pictures) < MOST_PICTURES:
                axes = _histogram(column.name, seen, drawn)
                pictures.append(Picture.of(axes, f"{column.name}: observed and imputed."))
    blocks: list[Block] = [
        "Where values are not missing completely at random, imputed ones differ from observed ones: a difference is no"
        " fault in itself."
    ]
    if numbers:
        blocks.append(pd.DataFrame.from_dict(numbers, orient="index").rename_axis("column"))
    of_cells = table.schema.columns, imputations.cells, imputations.draws
    blocks += [f"Caution: {said}." for said in (*negative_where_none_was(*of_cells), *far_beyond_seen(*of_cells))]
    if levels:
        blocks.append(pd.DataFrame(levels).set_index("column"))
    effective = imputations.effective_sample_size[np.unique(imputations.cells[0])]
    if len(effective):
        few = int((effective < FEW_PARTICLES).sum())
        blocks.append(
            f"Effective sample size of the importance weights: smallest {effective.min():.1f}, median"
            f" {np.median(effective):.0f}; below {FEW_PARTICLES} in {few} of {len(effective)} rows with gaps"
            + (", whose draws repeat values: use more particles." if few else ".")
        )
    return Section("Imputed values", (*blocks, *pictures))


def _text(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _curve(history: pd.DataFrame, number: str) -> Any:
    from matplotlib.figure import Figure

    axes = Figure(figsize=(6, 2.6), layout="constrained").add_subplot()
    axes.plot(np.arange(1, len(history) + 1), history[number])
    axes.set(xlabel="epoch", ylabel=f"{number}, nats per row")
    return axes


def _histogram(name: Hashable, seen: Any, drawn: Any) -> Any:
    from matplotlib.figure import Figure

    axes = Figure(figsize=(6, 2.4), layout="constrained").add_subplot()
    # Tails beyond all but one value in a thousand would squeeze the rest into a few bars.
    low, high = np.quantile(np.concatenate([seen, drawn.ravel()]), [0.001, 0.999])
    bins = np.linspace(low, high if high > low else low + 1.0, 31).tolist()
    axes.hist(seen, bins=bins, density=True, color="0.7", label="observed")
    axes.hist(drawn.ravel(), bins=bins, density=True, histtype="step", color="C0", linewidth=1.5, label="imputed")
    axes.set(xlabel=str(name), yticks=[])
    axes.legend()
    return axes
