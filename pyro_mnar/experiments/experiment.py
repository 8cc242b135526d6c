"""An experiment is a description: systems, data sets, metrics, published figures, and a function for one run.

A system is any object with a ``name``; what else it needs, the experiment's ``run`` says.  So a system of one's own
joins in one line::

    run_experiment(uci().adding(MyImputer()), Path("results"), seeds=range(5))
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import pandas as pd

from pyro_mnar.experiments.configuration import configuration_of
from pyro_mnar.experiments.runs import Key


@runtime_checkable
class System(Protocol):
    """What takes part in an experiment."""

    @property
    def name(self) -> str:
        """What tables and figures call it."""
        ...


class Task(NamedTuple):
    """One run.

    Attributes:
        system: Who runs.
        data_name: On which data set.
        data: The data set itself, made from the seed.
        seed: Of the data set, the fit and the draws.
        folder: Where the run may leave files for the experiment's figures.
    """

    system: Any
    data_name: str
    data: Any
    seed: int
    folder: Path


class Published(NamedTuple):
    """A figure that somebody has published.

    Attributes:
        system: The system as our table calls it; one that we do not run gets a row of its own.
        data: The data set as our table calls it.
        metric: The metric as our table calls it.
        value: As printed there.
        source: Paper and table.
        error: Standard error, if one is printed.
    """

    system: str
    data: str
    metric: str
    value: float
    source: str
    error: float | None = None


@dataclass(frozen=True)
class Experiment:
    """A table of the paper, with its figures.

    Attributes:
        name: As on the command line.
        title: One line on what is compared.
        systems: The rows of the table.
        data: The columns of the table: for each data set, what makes it from a seed.
        run: One run; gives a number for each of ``metrics``.
        metrics: For each metric, what it is and its unit.
        published: Figures to print beside ours.
        settings: What else a result depends on; part of every run's configuration.
        left_out: Pairs of a system's and a data set's name that are not run.
        draw: Draws the figures, given all runs and the folder.
        notes: Lines to print below the tables.
    """

    name: str
    title: str
    systems: Sequence[System]
    data: Mapping[str, Callable[[int], Any]]
    run: Callable[[Task], Mapping[str, float]]
    metrics: Mapping[str, str]
    published: Sequence[Published] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    left_out: Collection[tuple[str, str]] = ()
    draw: Callable[[pd.DataFrame, Path], None] | None = None
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        names = [system.name for system in self.systems]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"system {twice!r}: expected one of this name, got {names.count(twice)}")

    def adding(self, *systems: System) -> Experiment:
        """The experiment with more systems in it.

        Raises:
            TypeError: If one of them is a class, not made yet.
            ValueError: If one of them has the name of another.
        """
        for system in systems:
            if isinstance(system, type):
                raise TypeError(f"system: expected an object, got the class {system.__name__}: make one of it")
        return replace(self, systems=(*self.systems, *systems))

    def only(self, systems: Collection[str] | None = None, data: Collection[str] | None = None) -> Experiment:
        """A part of the experiment.

        Args:
            systems: Names of systems to keep; by default all.
            data: Names of data sets to keep; by default all.

        Raises:
            ValueError: If a name is not among the experiment's.
        """
        kept = _chosen("system", {system.name: system for system in self.systems}, systems)
        return replace(self, systems=tuple(kept.values()), data=_chosen("data set", self.data, data))

    def key(self, system: System, data_name: str, seed: int) -> Key:
        """What a run is known by."""
        return Key(system.name, data_name, seed, configuration_of(system, self.settings))

    def own(self, runs: pd.DataFrame) -> pd.DataFrame:
        """Of a file's lines, those of the experiment's systems and data sets as they are now configured."""
        configurations = {system.name: self.key(system, "", 0).configuration for system in self.systems}
        current = runs["system"].map(configurations) == runs["configuration"]
        return runs[current & runs["data"].isin(list(self.data))].reset_index(drop=True)


def _chosen(what: str, things: Mapping[str, Any], names: Collection[str] | None) -> dict[str, Any]:
    if isinstance(names, str):
        names = [names]
    for name in names or ():
        if name not in things:
            raise ValueError(f"{what} {name!r}: expected one of {list(things)!r}")
    return {name: thing for name, thing in things.items() if names is None or name in names}
