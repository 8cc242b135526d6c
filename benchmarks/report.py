"""What a section hands back, and how its figures are put beside their targets, kept and printed."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path

import pandas as pd
import torch
from torch.profiler import ProfilerActivity, profile


@dataclass(frozen=True)
class Report:
    """Figures of a section.

    Attributes:
        table: One row a figure; the columns ``target`` and ``met`` where :func:`beside_targets` has put them.
        note: What was measured: sizes, seeds, rounds.
        missed: Makes a table of where the time goes; called where a target is missed.
    """

    table: pd.DataFrame
    note: str
    missed: Callable[[], pd.DataFrame] | None = None

    def profile(self) -> pd.DataFrame | None:
        """Where the time goes, if a target is missed."""
        has_missed = "met" in self.table and bool((self.table["met"] == "no").any())
        return self.missed() if has_missed and self.missed is not None else None


def beside_targets(table: pd.DataFrame, figure: str, most: Mapping[str, float]) -> pd.DataFrame:
    """Add what each row's figure may be at most, rows named by the first column, and whether it is."""
    limits = table.iloc[:, 0].map(most)
    met = ["" if math.isnan(limit) else "yes" if value <= limit else "no"
           for value, limit in zip(table[figure], limits, strict=True)]  # fmt: skip
    return table.assign(target=["" if math.isnan(limit) else f"≤ {shown(limit)}" for limit in limits], met=met)


def where_time_goes(run: Callable[[], object], rows: int = 10) -> pd.DataFrame:
    """Share of the processor's time in each of torch's operations, and in all that is none: Python, compiled code."""
    run()
    of_cpu = profile(activities=[ProfilerActivity.CPU], acc_events=True)
    with of_cpu as profiled, torch.profiler.record_function("everything else"):
        run()
    events = pd.Series({event.key: event.self_cpu_time_total for event in profiled.key_averages()})
    shares = (events / events.sum()).sort_values(ascending=False)
    table = shares.head(rows).rename_axis("operation").reset_index(name="share")
    return pd.concat([table, pd.DataFrame([{"operation": "all others", "share": shares.iloc[rows:].sum()}])])


def markdown(table: pd.DataFrame) -> str:
    """The table in GitHub's form."""
    lines = ["| " + " | ".join(map(str, table.columns)) + " |", "|" + "---|" * len(table.columns)]
    lines += ["| " + " | ".join(shown(value) for value in row) + " |" for row in table.itertuples(index=False)]
    return "\n".join(lines)


def as_text(table: pd.DataFrame) -> str:
    """The table for a terminal."""
    return table.map(shown).to_string(index=False)


def shown(value: object) -> str:
    """A number in three digits, or the text that it is."""
    if isinstance(value, Integral):
        return f"{value:,}"
    if not isinstance(value, float):
        return str(value)
    if math.isnan(value):
        return ""
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


def write_tables(folder: Path, titles: Mapping[str, str], runs: pd.DataFrame) -> None:
    """All sections' tables on one page, from their files and what is known of their runs."""
    parts = [
        "# Speed and memory, as measured",
        "Made by `make bench`: one table a section, figures that have a target beside it.",
    ]
    for run in runs.itertuples(index=False):
        table = pd.read_csv(folder / f"{run.section}.csv")
        how = f"pyro-mnar {run.version}, torch {run.torch}, threads {run.threads} of {run.processors}, {run.date}"
        parts += [f"## {run.section}", f"{titles[run.section]} {run.note} ({how}.)", markdown(table)]
        profiled = folder / f"{run.section}_profile.csv"
        if profiled.exists():
            parts += ["A target is missed; where the time goes:", markdown(pd.read_csv(profiled))]
    (folder / "tables.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def put_tables(page: Path, folder: Path) -> None:
    """Replace what stands between ``<!-- table: NAME -->`` and ``<!-- end -->`` by the section's table, if it has one.

    Raises:
        ValueError: If a mark has no end.
    """
    parts = page.read_text(encoding="utf-8").split("<!-- table: ")
    for at, part in enumerate(parts[1:], start=1):
        name, rest = part.split(" -->", 1)
        _, end, after = rest.partition("<!-- end -->")
        if not end:
            raise ValueError(f"{page.name}: expected <!-- end --> after <!-- table: {name} -->")
        path = folder / f"{name}.csv"
        if path.exists():
            parts[at] = f"{name} -->\n{markdown(pd.read_csv(path))}\n{end}{after}"
    page.write_text("<!-- table: ".join(parts), encoding="utf-8")


def options_of(
    description: str | None, sections: Iterable[str], arguments: Sequence[str] | None, flags: Mapping[str, str]
) -> argparse.Namespace:
    """Options of a runner of sections: those that are asked for, all by default, ``--docs`` and flags of its own.

    Ends the process where a section is not one of them.

    Args:
        description: What the runner does.
        sections: Their names.
        arguments: Of the command line; None for those of the process.
        flags: What each flag does.
    """
    known = list(sections)
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", default=[], help=f"of {', '.join(known)}; all by default")
    for flag, told in {**flags, "--docs": "put the tables into docs/speed.md too"}.items():
        parser.add_argument(flag, action="store_true", help=told)
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.sections) - set(known))
    if unknown:
        parser.error(f"section {unknown[0]!r}: expected one of {known}")
    options.sections = list(dict.fromkeys(options.sections)) or known
    return options
