"""What a patient's visits would have averaged after dropout, by assumption (Carpenter, Roger & Kenward 2013).

Of a patient last seen at visit t, with mean μ in the own arm and ρ in the control arm, at the patient's covariates:

    MAR                         μ_1 ... μ_t, μ_(t+1) ... μ_J
    jump                        μ_1 ... μ_t, ρ_(t+1) ... ρ_J
    copy                        ρ_1 ... ρ_t, ρ_(t+1) ... ρ_J
    copy increments             μ_1 ... μ_t, μ_t + ρ_(t+1) - ρ_t ... μ_t + ρ_J - ρ_t
    last mean carried forward   μ_1 ... μ_t, μ_t ... μ_t

The unseen visits are drawn given the seen ones from the normal distribution with that mean and the common covariance.
Gaps before the last visit seen are no dropout: who has only such keeps μ.  Who was never seen takes ρ under copy
increments, as under jump and copy, and has no mean to carry forward.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from pyro_mnar.messages import check_is, shown
from pyro_mnar.scenarios.trial import Trial

Means = Float[NDArray, "*draws patients visits"]


def _jump(
    own: Means, reference: Means, after: Bool[NDArray, "patients visits"], last: Int[NDArray, " patients"]
) -> Means:
    return np.where(after, reference, own)


def _copy(
    own: Means, reference: Means, after: Bool[NDArray, "patients visits"], last: Int[NDArray, " patients"]
) -> Means:
    return np.where(after.any(1, keepdims=True), reference, own)


def _increments(
    own: Means, reference: Means, after: Bool[NDArray, "patients visits"], last: Int[NDArray, " patients"]
) -> Means:
    gained = _at(own, last) - _at(reference, last)
    return np.where(after, reference + np.where(last[:, None] >= 0, gained, 0.0), own)


def _carried(
    own: Means, reference: Means, after: Bool[NDArray, "patients visits"], last: Int[NDArray, " patients"]
) -> Means:
    return np.where(after, _at(own, last), own)


def _at(means: Means, visits: Int[NDArray, " patients"]) -> Float[NDArray, "*draws patients 1"]:
    where = np.broadcast_to(np.maximum(visits, 0)[:, None], (*means.shape[:-1], 1))
    return np.take_along_axis(means, where, axis=-1)


_RULES: dict[str, Callable[..., Means]] = {
    "MAR": lambda own, *_: own,
    "jump": _jump,
    "copy": _copy,
    "copy increments": _increments,
    "last mean carried forward": _carried,
}
REFERENCES = tuple(_RULES)
MEANINGS = {  # in words, what a patient's mean is after dropout
    "MAR": "as others of the own arm who had been alike until then",
    "jump": "the control arm's mean, at once",
    "copy": "the control arm's mean, which counts as the patient's before dropout too",
    "copy increments": "the own mean at the last visit, then the control arm's changes",
    "last mean carried forward": "the own arm's mean at the last visit",
}


def references_of(trial: Trial, given: str | Mapping[Hashable, str] | pd.Series) -> NDArray[Any]:
    """The assumption about each patient's dropout, by name.

    Raises:
        ValueError: If a name is unknown, a patient has none, or a mean is to be carried forward of who was never seen.
    """
    if isinstance(given, str):
        names = np.full(len(trial.patients), given, dtype=object)
    else:
        check_is("reference", given, (str, Mapping, pd.Series), " by patient")
        names = pd.Series(given, dtype=object).reindex(trial.patients).to_numpy(dtype=object)
    for patient, name, last in zip(trial.patients, names, trial.last_seen, strict=True):
        if not isinstance(name, str) or name not in _RULES:
            of_whom = "" if isinstance(given, str) else f" for patient {patient!r}"
            raise ValueError(f"reference{of_whom}: expected one of {list(REFERENCES)!r}, got {shown(name)}")
        if name == "last mean carried forward" and last < 0:
            raise ValueError(
                f"reference: expected a visit at which patient {patient!r} was seen, whose mean is to be carried"
                " forward, got none; give another reference for this patient, or the baseline as the first visit"
            )
    return names


def means_after_dropout(trial: Trial, names: NDArray[Any], own: Means, reference: Means) -> Means:
    """Means of all visits under each patient's assumption.

    Args:
        trial: The trial.
        names: The assumption about each patient; ``(patients,)``.
        own: Means in the own arms.
        reference: Means of the same patients in the control arm.
    """
    last = trial.last_seen
    after = np.arange(len(trial.visits))[None, :] > last[:, None]
    means = own.copy()
    for name in pd.unique(names):
        here = names == name
        means[..., here, :] = _RULES[name](own[..., here, :], reference[..., here, :], after[here], last[here])
    return means
