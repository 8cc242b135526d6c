"""A trial's repeated measures, read from a long or a wide frame, and frames completed in the same layout."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy.typing import NDArray

from pyro_mnar.messages import is_one_of, shown


@dataclass(frozen=True, eq=False)
class Trial:
    """Patients, visits, arms and what was measured.

    Attributes:
        frame: The user's frame; of a long one, with a row for every patient and visit.
        patients: Who; of a wide frame its index.
        visits: When, in time order.
        outcomes: What was measured, NaN where it was not; ``(patients, visits)``.
        arms: Each patient's arm; ``(patients,)``.
        control: The arm that others may be referred to.
        covariates: Numbers and indicators of the covariates; ``(patients, covariates)``.
        columns: The outcome's column of a long frame, or the columns of a wide one, one a visit.
        places: Of a long frame, the row of each patient and visit; None for a wide one; ``(patients, visits)``.
    """

    frame: pd.DataFrame
    patients: pd.Index
    visits: tuple[Hashable, ...]
    outcomes: Float[NDArray, "patients visits"]
    arms: NDArray[Any]
    control: Hashable
    covariates: Float[NDArray, "patients covariates"]
    columns: tuple[Hashable, ...]
    places: Int[NDArray, "patients visits"] | None

    @classmethod
    def from_long(
        cls,
        frame: pd.DataFrame,
        *,
        patient: Hashable,
        visit: Hashable,
        arm: Hashable,
        outcome: Hashable,
        covariates: Sequence[Hashable],
        control: Hashable,
    ) -> Trial:
        """A row a patient and visit, absent or NaN where nothing was measured."""
        _check_columns(frame, (patient, visit, arm, outcome, *covariates))
        for name in (patient, visit):
            _refuse_gaps(frame[name], "a value in every row")
        repeated = frame.duplicated([patient, visit])
        if repeated.any():
            who, when = frame.loc[repeated.to_numpy(), [patient, visit]].iloc[0]
            raise ValueError(f"patient {who!r}: expected one row at visit {when!r}, got several")
        for name in (arm, *covariates):
            counts = frame.groupby(patient, sort=False, observed=True)[name].nunique(dropna=False)
            if (counts > 1).any():
                who = counts.index[(counts > 1).to_numpy()][0]
                raise ValueError(
                    f"column {name!r}: expected one value a patient, got several of patient {who!r} (a covariate that"
                    " changes over visits is none of the repeated-measures model)"
                )
        patients = pd.Index(frame[patient].drop_duplicates(), name=patient)
        visits = pd.Index(frame[visit].drop_duplicates().sort_values(), name=visit)
        frame = _with_every_visit(frame, patient, visit, patients, visits)
        places = np.empty((len(patients), len(visits)), dtype=np.int64)
        places[patients.get_indexer(frame[patient]), visits.get_indexer(frame[visit])] = np.arange(len(frame))
        persons = frame.iloc[places[:, 0]].set_axis(patients)
        return cls(
            frame,
            patients,
            tuple(visits.tolist()),
            _numbers(frame[outcome])[places],
            _arms(persons[arm], control),
            control,
            _encoded(persons, covariates),
            (outcome,),
            places,
        )

    @classmethod
    def from_wide(
        cls,
        frame: pd.DataFrame,
        *,
        arm: Hashable,
        outcomes: Sequence[Hashable],
        covariates: Sequence[Hashable],
        control: Hashable,
    ) -> Trial:
        """A row a patient, a column a visit."""
        _check_columns(frame, (arm, *outcomes, *covariates))
        if len(set(outcomes)) != len(outcomes):
            raise ValueError(f"outcome: expected each visit's column once, got {list(outcomes)!r}")
        return cls(
            frame,
            frame.index,
            tuple(outcomes),
            np.stack([_numbers(frame[name]) for name in outcomes], axis=1),
            _arms(frame[arm], control),
            control,
            _encoded(frame, covariates),
            tuple(outcomes),
            None,
        )

    @property
    def last_seen(self) -> Int[NDArray, " patients"]:
        """Position of each patient's last visit, -1 for who was seen at none."""
        seen = ~np.isnan(self.outcomes)
        return np.where(seen.any(1), seen.shape[1] - 1 - seen[:, ::-1].argmax(1), -1)

    def design(self, *, as_control: bool = False) -> Float[NDArray, "patients columns"]:
        """A constant, an indicator of each arm but the control, covariates; or as if all were in the control arm."""
        others = [arm for arm in pd.unique(self.arms) if arm != self.control]
        indicators = (self.arms[:, None] == np.array(others, dtype=object)[None, :]) & (not as_control)
        return np.concatenate([np.ones((len(self.arms), 1)), indicators, self.covariates], axis=1).astype(np.float64)

    def gaps(self) -> pd.DataFrame:
        """A row a gap, patient by patient: columns ``patient``, ``visit`` and ``arm``, the visits since the last one
        seen (``visits_since``; negative for gaps before it), and the frame's other columns of that patient.
        """
        at_patient, at_visit = np.nonzero(np.isnan(self.outcomes))
        own = pd.DataFrame(
            {
                "patient": self.patients[at_patient],
                "visit": np.array(self.visits, dtype=object)[at_visit],
                "arm": self.arms[at_patient],
                "visits_since": at_visit - self.last_seen[at_patient],
            }
        ).infer_objects()
        rows = at_patient if self.places is None else self.places[at_patient, at_visit]
        rest = self.frame.drop(columns=[name for name in own.columns if name in self.frame.columns])
        return pd.concat([own, rest.iloc[rows].reset_index(drop=True)], axis=1)

    def completed(self, values: Float[NDArray, "patients visits"]) -> pd.DataFrame:
        """The frame with these outcomes, as floating numbers."""
        done = self.frame.copy()
        if self.places is None:
            for j, name in enumerate(self.columns):
                done[name] = values[:, j]
            return done
        column = np.empty(len(done))
        column[self.places] = values
        done[self.columns[0]] = column
        return done


def _with_every_visit(
    frame: pd.DataFrame, patient: Hashable, visit: Hashable, patients: pd.Index, visits: pd.Index
) -> pd.DataFrame:
    """The frame as it is, if no row is absent; else sorted by patient and visit, with rows of their own for those.

    Columns that never change within a patient are carried to new rows, others have no value there.
    """
    if len(frame) == len(patients) * len(visits):
        return frame
    every = pd.MultiIndex.from_product([patients, visits])
    by_place = frame.set_index([patient, visit])
    is_new = ~every.isin(by_place.index)
    whole = by_place.reindex(every).reset_index()
    of_patients = frame.groupby(patient, sort=False, observed=True)
    for name in by_place.columns:
        if (of_patients[name].nunique(dropna=False) <= 1).all():
            values = whole[name].astype(object)
            values[is_new] = of_patients[name].first().reindex(whole.loc[is_new, patient]).to_numpy(dtype=object)
            whole[name] = values.astype(frame[name].dtype)
    return whole[list(frame.columns)]


def _check_columns(frame: pd.DataFrame, names: Sequence[Hashable]) -> None:
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(f"expected a pandas DataFrame, got {type(frame).__name__}")
    for name in names:
        if not is_one_of(name, frame.columns):
            raise ValueError(f"column {shown(name)}: expected one of {list(frame.columns)!r}")
    repeated = [name for at, name in enumerate(names) if name in names[:at]]
    if repeated:
        raise ValueError(f"column {repeated[0]!r}: expected one part in the trial for each column, got it in two")


def _refuse_gaps(values: pd.Series, expected: str) -> None:
    if values.isna().any():
        row = values.index[values.isna().to_numpy()][0]
        raise ValueError(f"column {values.name!r}: expected {expected}, got none in row {row!r}")


def _numbers(values: pd.Series) -> Float[NDArray, " rows"]:
    if not pd.api.types.is_numeric_dtype(values.dtype) or pd.api.types.is_bool_dtype(values.dtype):
        raise ValueError(f"column {values.name!r}: expected numbers as outcome, got {values.dtype}")
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    if np.isinf(numbers).any():
        row = values.index[np.isinf(numbers)][0]
        raise ValueError(f"column {values.name!r}: expected finite numbers, got an infinite one in row {row!r}")
    return numbers


def _arms(values: pd.Series, control: Hashable) -> NDArray[Any]:
    _refuse_gaps(values, "each patient's arm")
    arms = values.astype(object).to_numpy()
    found = pd.unique(arms).tolist()
    if not is_one_of(control, found) or len(found) < 2:
        raise ValueError(
            f"column {values.name!r}: expected the control arm {shown(control)} and others, got {shown(found)}"
        )
    return arms


def _encoded(frame: pd.DataFrame, names: Sequence[Hashable]) -> Float[NDArray, "patients columns"]:
    """Numbers, standardised (which changes no fit), and an indicator of every level but the first."""
    parts = [np.empty((len(frame), 0))]
    for name in names:
        values = frame[name]
        _refuse_gaps(values, "a covariate that is known of every patient")
        if pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_bool_dtype(values.dtype):
            numbers = values.to_numpy(dtype=np.float64)
            parts.append(((numbers - numbers.mean()) / (numbers.std() or 1.0))[:, None])
        else:
            levels = pd.unique(values.astype(object))
            parts.append((values.astype(object).to_numpy()[:, None] == levels[None, 1:]).astype(np.float64))
    return np.concatenate(parts, axis=1)
