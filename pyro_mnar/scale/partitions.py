"""Imputation of tables larger than memory: one partition of a Dask frame after another, on any Dask cluster.

Every partition is a table of its own to :func:`~pyro_mnar.impute`, with a seed that comes from the given seed and the
partition's number.  So results depend neither on the cluster nor on the order in which it works.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from pyro_mnar.imputation import Imputations, impute
from pyro_mnar.messages import seed_of
from pyro_mnar.scale.extra import needed
from pyro_mnar.training.fitted import Fit, check_fit

DRAW = "draw"  # name of the column that numbers the draws


def impute_partitions(fit: Fit, frame: Any, *, num_draws: int = 1, seed: int = 0, **options: Any) -> Any:
    """Completed tables, drawn from the posterior.

    Args:
        fit: A trained model and guide; it travels to the workers once.
        frame: A Dask frame, such as ``dask.dataframe.read_parquet`` gives; columns as for :func:`~pyro_mnar.impute`.
        num_draws: Completed tables to draw.
        seed: Same seed and same partitions, same numbers.
        options: As for :func:`~pyro_mnar.impute`: ``num_particles``, ``use_mechanism``, ``device``.

    Returns:
        A lazy Dask frame with as many partitions; in each one draw after another, which the first column, ``"draw"``,
        numbers.  Dtypes are the frame's own.

    Raises:
        ImportError: If Dask is not installed.
        ValueError: If the frame has a column called ``"draw"``; when computed, as :func:`~pyro_mnar.impute`.
        TypeError: If ``frame`` is no Dask frame.
    """
    meta = _meta(frame)
    if DRAW in meta.columns:
        raise ValueError(f"column {DRAW!r}: expected another name, since this one numbers the draws")
    meta.insert(0, DRAW, pd.Series(dtype=np.int64))
    return _mapped(fit, frame, _draws, meta, seed, {**options, "num_draws": num_draws})


def mean_partitions(fit: Fit, frame: Any, *, seed: int = 0, **options: Any) -> Any:
    """The table with posterior means in its gaps, of words the most probable ones; otherwise as
    :func:`impute_partitions`.

    Whole numbers and truth values that receive means become floating, in every partition alike.
    """
    check_fit(fit)
    meta = _meta(frame)
    for column in fit.schema.columns:
        dtype = meta[column.name].dtype
        if (
            (column.incomplete or pd.api.types.is_extension_array_dtype(dtype))
            and not column.kind.holds_words
            and (pd.api.types.is_integer_dtype(dtype) or pd.api.types.is_bool_dtype(dtype))
        ):
            floating = "Float64" if pd.api.types.is_extension_array_dtype(dtype) else "float64"
            meta[column.name] = meta[column.name].astype(floating)
    return _mapped(fit, frame, _mean, meta, seed, options)


def _mapped(
    fit: Fit,
    frame: Any,
    completed: Callable[[Imputations, pd.DataFrame], pd.DataFrame],
    meta: pd.DataFrame,
    seed: int,
    options: dict[str, Any],
) -> Any:
    check_fit(fit)
    seed = seed_of(seed)
    delayed = needed("dask").delayed
    # One key in the graph, so that it travels to a worker once; neither restarts nor the trained rows impute.
    carried = delayed(_Carried(replace(fit, members=[], table=None)), pure=False)
    complete = delayed(_completed, pure=False)
    # The number is part of the task: a partition keeps it when others are left out.
    parts = [
        complete(part, carried, completed, meta, [seed, number], options)
        for number, part in enumerate(frame.to_delayed())
    ]
    return needed("dask.dataframe").from_delayed(parts, meta=meta, divisions=frame.divisions, verify_meta=False)


class _Carried:
    """A fit that workers pass on as it came: none is pickled while it imputes, and a worker has to answer meanwhile.

    Args:
        fit: The fit.
        content: It, pickled, where it came so.
    """

    def __init__(self, fit: Fit, content: bytes | None = None) -> None:
        self.fit, self.content = fit, content

    def __reduce__(self) -> tuple[Callable[[bytes], _Carried], tuple[bytes]]:
        pickler = needed("cloudpickle")  # Dask's own, which takes along what a notebook defines
        return _received, (pickler.dumps(self.fit) if self.content is None else self.content,)


def _received(content: bytes) -> _Carried:
    """What another process sent; a function, which every pickler takes by its name."""
    return _Carried(pickle.loads(content), content)


def _completed(
    rows: pd.DataFrame,
    carried: _Carried,
    completed: Callable[[Imputations, pd.DataFrame], pd.DataFrame],
    meta: pd.DataFrame,
    seeds: list[int],
    options: dict[str, Any],
) -> pd.DataFrame:
    if not len(rows):
        return meta
    own = np.random.SeedSequence(seeds).generate_state(1)
    return completed(impute(carried.fit, rows, seed=int(own[0]), **options), meta)


def _draws(imputations: Imputations, meta: pd.DataFrame) -> pd.DataFrame:
    frames = list(imputations.frames())
    for number, frame in enumerate(frames):
        frame.insert(0, DRAW, number)
    return pd.concat(frames) if len(frames) > 1 else frames[0]


def _mean(imputations: Imputations, meta: pd.DataFrame) -> pd.DataFrame:
    return imputations.mean().astype(meta.dtypes.to_dict())


def _meta(frame: Any) -> pd.DataFrame:
    if not isinstance(frame, needed("dask.dataframe").DataFrame):
        raise TypeError(f"frame: expected a Dask DataFrame, got {type(frame).__name__}")
    return frame._meta.copy()
