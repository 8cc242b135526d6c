"""The file of an experiment's runs: a tidy CSV to which each finished run is added at once, and never taken away.

A run's lines are written in one call, so a killed process leaves whole lines, or one torn line at the end that the next
reader drops.  A run counts as finished when all metrics of the experiment are there.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd

COLUMNS = ("system", "data", "seed", "metric", "value", "seconds", "configuration", "error")
FAILURE = "failure"


class Key(NamedTuple):
    """What a run is known by.

    Attributes:
        system: The system's name.
        data: The data set's name.
        seed: Of the data set, the fit and the draws.
        configuration: Everything else that the result depends on, see
            :func:`~pyro_mnar.experiments.configuration.configuration_of`.
    """

    system: str
    data: str
    seed: int
    configuration: str


class Runs:
    """Runs in a CSV file, one line a run and metric.

    Args:
        path: The file; made with the first run, its folder too.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> pd.DataFrame:
        """All whole lines of the file; empty if there is none.

        Raises:
            ValueError: If the file has other columns.
        """
        text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        text = text[: text.rfind("\n") + 1]
        if not text:
            return pd.DataFrame(columns=list(COLUMNS)).astype({"seed": int, "value": float, "seconds": float})
        found = pd.read_csv(io.StringIO(text), keep_default_na=False, na_values={"value": [""], "seconds": [""]})
        if tuple(found.columns) != COLUMNS:
            raise ValueError(f"{self.path}: expected the columns {', '.join(COLUMNS)}, got {', '.join(found.columns)}")
        return found

    def finished(self, metrics: Collection[str]) -> set[Key]:
        """Runs of which every one of the metrics is known."""
        known: dict[Key, set[str]] = {}
        for line in self.read().itertuples(index=False):
            key = Key(str(line.system), str(line.data), int(line.seed), str(line.configuration))
            known.setdefault(key, set()).add(str(line.metric))
        return {key for key, found in known.items() if found >= set(metrics)}

    def add(self, key: Key, results: Mapping[str, float], seconds: float) -> None:
        """Write a finished run."""
        self._append([self._line(key, metric, value, seconds, "") for metric, value in results.items()])

    def add_failure(self, key: Key, error: BaseException, seconds: float) -> None:
        """Write that a run failed, and of what."""
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        self._append([self._line(key, FAILURE, float("nan"), seconds, reason)])

    def _line(self, key: Key, metric: str, value: float, seconds: float, error: str) -> list[object]:
        number = "" if value != value else repr(float(value))
        return [key.system, key.data, key.seed, metric, number, round(seconds, 3), key.configuration, error]

    def _append(self, lines: list[list[object]]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._drop_torn_line()
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        size = self.path.stat().st_size if self.path.exists() else 0
        if not size:
            writer.writerow(COLUMNS)
        writer.writerows(lines)
        try:
            # Not by os.write alone, which may write a part of it and say so by a number that nobody reads.
            with self.path.open("ab") as file:
                file.write(text.getvalue().encode("utf-8"))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            with contextlib.suppress(OSError):
                os.truncate(self.path, size)
            raise OSError(error.errno, f"cannot write {self.path}: {error.strerror}") from None

    def _drop_torn_line(self) -> None:
        """Else the next run's first line would continue it."""
        if not self.path.exists():
            return
        whole = self.path.read_bytes()
        end = whole.rfind(b"\n") + 1
        if end < len(whole):
            os.truncate(self.path, end)
