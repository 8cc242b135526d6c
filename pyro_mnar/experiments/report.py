"""Tables of an experiment: mean and standard error over seeds, the published figures beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from pyro_mnar.experiments.experiment import Experiment, Published
from pyro_mnar.experiments.runs import FAILURE
from pyro_mnar.tables.whole_files import write_atomically

DIGITS = 3
ABSENT = ""


def write_tables(experiment: Experiment, runs: pd.DataFrame, path: Path) -> str:
    """One Markdown table a metric into a file; returns the text."""
    seeds = sorted({int(seed) for seed in runs["seed"]})
    lines = [f"# {experiment.name}", "", f"{experiment.title} {_seeds_line(seeds)}"]
    for metric, meaning in experiment.metrics.items():
        lines += ["", f"**{metric}**: {meaning}", "", *table(experiment, runs, metric)]
    failures = _failures(runs)
    if len(failures):
        lines += ["", "Failures:", ""]
        lines += [f"- {f.system} on {f.data}, seed {f.seed}: {f.error}" for f in failures.itertuples()]
    lines += ["", *experiment.notes] if experiment.notes else []
    text = "\n".join(lines) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.encode())
    return text


def table(experiment: Experiment, runs: pd.DataFrame, metric: str) -> list[str]:
    """The lines of one metric's Markdown table: systems down, data sets across, published figures beside ours."""
    published = [figure for figure in experiment.published if figure.metric == metric]
    beside = {figure.data for figure in published}
    header = ["system"]
    for data in experiment.data:
        header += [data, "published"] if data in beside else [data]
    lines = [_row(header), _row(["---"] * len(header))]
    ours = [system.name for system in experiment.systems]
    theirs = list(dict.fromkeys(f.system for f in published if f.system not in ours and f.data in experiment.data))
    for system in [*ours, *theirs]:
        cells = [system]
        for data in experiment.data:
            own = runs[(runs["system"] == system) & (runs["data"] == data)]
            cells.append(cell(own, metric, num_seeds=runs["seed"].nunique()))
            if data in beside:
                cells.append(_printed([f for f in published if (f.system, f.data) == (system, data)]))
        lines.append(_row(cells))
    sources = list(dict.fromkeys(figure.source for figure in published if figure.data in experiment.data))
    return [*lines, "", f"Published: {'; '.join(sources)}."] if sources else lines


def cell(runs: pd.DataFrame, metric: str, num_seeds: int) -> str:
    """``mean ± standard error`` of one system on one data set, and the number of seeds if less than the table has."""
    values = runs.loc[runs["metric"] == metric].drop_duplicates("seed", keep="last")["value"]
    if not len(values):
        return FAILURE if (runs["metric"] == FAILURE).any() else ABSENT
    spread = f" ± {values.sem():.{DIGITS}f}" if len(values) > 1 else ""
    fewer = f" ({len(values)})" if len(values) < num_seeds else ""
    return f"{values.mean():.{DIGITS}f}{spread}{fewer}"


def paired(runs: pd.DataFrame, metric: str, reference: str) -> pd.DataFrame:
    """Every system's difference to a reference over the same data set and seed: mean, standard error and seeds.

    Args:
        runs: Lines as :func:`~pyro_mnar.experiments.run_experiment` returns them.
        metric: What to compare.
        reference: The system to subtract.

    Returns:
        ``mean``, ``sem`` and ``count`` by ``(data, system)``.

    Raises:
        ValueError: If the reference has no run.
    """
    chosen = runs[runs["metric"] == metric].drop_duplicates(["system", "data", "seed"], keep="last")
    wide = chosen.pivot(index=["data", "seed"], columns="system", values="value")
    if reference not in wide:
        raise ValueError(f"reference {reference!r}: expected one of {list(wide)!r}")
    less = wide.drop(columns=reference).sub(wide[reference], axis=0)
    long = less.reset_index().melt(["data", "seed"], var_name="system").dropna()
    return long.groupby(["data", "system"], sort=False)["value"].agg(["mean", "sem", "count"])


def _failures(runs: pd.DataFrame) -> pd.DataFrame:
    """The last failure of each run that has not succeeded since."""
    last = runs.drop_duplicates(["system", "data", "seed"], keep="last")
    return last[last["metric"] == FAILURE]


def _seeds_line(seeds: Sequence[int]) -> str:
    if not seeds:
        return "No run yet."
    if len(seeds) == 1:
        return f"Seed {seeds[0]}."
    return f"Mean ± standard error over {len(seeds)} seeds."


def _printed(figures: Sequence[Published]) -> str:
    if not figures:
        return ABSENT
    error = figures[0].error
    return f"{figures[0].value:g}" if error is None else f"{figures[0].value:g} ± {error:g}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
