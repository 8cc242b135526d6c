"""Reference-based imputation of a trial (Carpenter, Roger & Kenward 2013), and the completed trials that it gives."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import NDArray

from pyro_mnar.imputation.analyses import Analysis, pool_frames
from pyro_mnar.imputation.pooled import Pooled
from pyro_mnar.memory import check_room
from pyro_mnar.messages import is_one_of, names_of, real_array, seed_of, shown, whole_number
from pyro_mnar.models.repeated_measures import Parameters, RepeatedMeasures
from pyro_mnar.scenarios.reference_means import means_after_dropout, references_of
from pyro_mnar.scenarios.trial import Trial

Reference = str | Mapping[Hashable, str] | pd.Series
TrialDelta = float | Mapping[Hashable, float] | Callable[[pd.DataFrame], Any]

_OF_POSTERIOR = (
    "Every draw has parameters of its own from their posterior, so the intervals hold the uncertainty of the imputation"
    " model's parameters."
)

BYTES_OF_A_DRAW = 8  # of a patient at least


@dataclass(frozen=True, eq=False)
class TrialImputations:
    """Completed trials, each drawn with parameters of its own from their posterior.

    Attributes:
        trial: The trial that was imputed.
        references: The assumption about each patient's dropout; ``(patients,)``.
        estimate: Restricted maximum likelihood of the repeated-measures model.
        parameters: The draws' parameters, from their posterior.
        deltas: What was added to each gap, patient by patient; ``(gaps,)``.
        draws: Values of the gaps, patient by patient, in the outcome's units; ``(draws, gaps)``.
        means: Conditional means of the gaps at the estimate; ``(gaps,)``.
    """

    trial: Trial
    references: NDArray[Any]
    estimate: Parameters
    parameters: Parameters
    deltas: Float[NDArray, " gaps"]
    draws: Float[NDArray, "draws gaps"]
    means: Float[NDArray, " gaps"]

    def __repr__(self) -> str:
        named = ", ".join(sorted(set(self.references)))
        patients = len(self.trial.patients)
        return f"TrialImputations({self.num_draws} draws of {len(self.means)} visits of {patients} patients, {named})"

    @property
    def num_draws(self) -> int:
        """Number of draws."""
        return len(self.draws)

    @property
    def values(self) -> Float[NDArray, "draws patients visits"]:
        """The completed outcomes; ``(draws, patients, visits)``."""
        return np.stack([self._filled(draw) for draw in self.draws])

    def frames(self) -> Iterator[pd.DataFrame]:
        """The completed frames, one a draw; of a long frame, with a row for every patient and visit."""
        for draw in self.draws:
            yield self.trial.completed(self._filled(draw))

    def mean(self) -> pd.DataFrame:
        """The frame with conditional means at the restricted maximum likelihood estimate (Wolbers et al. 2022).

        An estimate from it needs no draws; its standard error must come from resampled patients, for an analysis that
        takes the means for data knows nothing of their uncertainty.
        """
        return self.trial.completed(self._filled(self.means))

    def shifted(self, delta: TrialDelta) -> TrialImputations:
        """The same imputations, moved by a delta as :func:`impute_trial` takes it, on top of the one that they have."""
        more = deltas_of(self.trial, delta)
        return replace(self, deltas=self.deltas + more, draws=self.draws + more, means=self.means + more)

    def pool(
        self,
        analysis: Analysis,
        *,
        outcome: Hashable | None = None,
        dfcom: float | None = None,
        rule: str = "barnard-rubin",
        confidence: float = 0.95,
    ) -> Pooled:
        """Run an analysis on every completed frame and combine what it says by Rubin's rules.

        Under a reference other than MAR these standard errors are those of the information that MAR would leave (Cro,
        Carpenter & Kenward 2019), larger than the spread of the estimate over repetitions of the trial.  Arguments and
        errors as of :func:`pyro_mnar.pool_frames`.
        """
        return pool_frames(
            self.frames(), analysis, outcome=outcome, dfcom=dfcom, rule=rule, confidence=confidence, note=_OF_POSTERIOR
        )

    def _filled(self, values: Float[NDArray, " gaps"]) -> Float[NDArray, "patients visits"]:
        outcomes = self.trial.outcomes.copy()
        outcomes[np.isnan(outcomes)] = values
        return outcomes


def impute_trial(
    frame: pd.DataFrame,
    *,
    arm: Hashable,
    control: Hashable,
    outcome: Hashable | Sequence[Hashable],
    patient: Hashable | None = None,
    visit: Hashable | None = None,
    covariates: Sequence[Hashable] = (),
    reference: Reference = "MAR",
    delta: TrialDelta | None = None,
    num_draws: int = 100,
    seed: int = 0,
) -> TrialImputations:
    """Impute what a trial's patients would have shown after dropout, under a stated assumption.

    The model is that of :mod:`pyro_mnar.models.repeated_measures`: at each visit a mean by arm and covariates (all by
    visit), an unstructured covariance common to the arms.  Every draw has parameters of its own from their posterior.

    Args:
        frame: Long, a row a patient and visit (absent or NaN where nothing was measured), or wide, a row a patient.
        arm: Column of the treatment arm.
        control: The arm that dropouts of other arms are referred to.
        outcome: Column of the outcome in a long frame, or a list of a wide frame's columns, in time order.
        patient: Column that says who, of a long frame.
        visit: Column that says when, of a long frame; visits are in the order of its values.
        covariates: Columns known of every patient, such as the baseline value: numbers, or levels.
        reference: What happens after dropout: ``"MAR"``, ``"jump"``, ``"copy"``, ``"copy increments"`` or ``"last mean
            carried forward"`` (:mod:`pyro_mnar.scenarios.reference_means`); or one for each patient, a mapping or a
            Series by patient.
        delta: What is added to every imputed value, in the outcome's units: a number by arm (arms not named get none),
            a number for all arms, or a function of :meth:`~pyro_mnar.scenarios.trial.Trial.gaps`, a frame with a row
            a gap, to a number for each.
        num_draws: Completed trials to draw.
        seed: Same seed, same draws; whatever the reference and the delta, from the same random numbers.

    Returns:
        The imputations.

    Raises:
        ValueError: If a column, an arm, a reference or a delta is not what it should be, or too few patients were seen
            at a visit.
        TypeError: If the frame is no pandas frame.
    """
    num_draws, seed = whole_number("num_draws", num_draws), seed_of(seed)
    trial = _trial(frame, arm, control, outcome, patient, visit, covariates)
    check_room("num_draws", num_draws, BYTES_OF_A_DRAW * len(trial.patients), "the outcomes of every draw")
    references = references_of(trial, reference)
    deltas = deltas_of(trial, delta)
    model = RepeatedMeasures(trial.design(), trial.outcomes, trial.visits)
    estimate = model.estimate()
    rng = np.random.default_rng(seed)
    parameters = model.posterior(num_draws, rng)

    def means(of: Parameters) -> Float[NDArray, "*draws patients visits"]:
        own, as_control = (design @ of.coefficients for design in (model.design, trial.design(as_control=True)))
        return means_after_dropout(trial, references, own, as_control)

    is_gap = np.isnan(trial.outcomes)
    draws = model.completed(means(parameters), parameters.covariance, rng)[:, is_gap] + deltas
    at_estimate = model.completed(means(estimate), estimate.covariance, None)[is_gap] + deltas
    return TrialImputations(trial, references, estimate, parameters, deltas, draws, at_estimate)


def deltas_of(trial: Trial, given: TrialDelta | None) -> Float[NDArray, " gaps"]:
    """What is added to each gap.

    Raises:
        ValueError: If an arm is not there, or a delta is not a finite number for each gap.
    """
    gaps = trial.gaps()
    if given is None:
        return np.zeros(len(gaps))
    if callable(given):
        made = real_array("delta", given(gaps))
        if made.shape not in ((), (len(gaps),)):
            raise ValueError(f"delta: expected a function to {len(gaps)} numbers, one a gap, got shape {made.shape}")
    elif isinstance(given, Mapping):
        known = set(trial.arms)
        for name in given:
            if not is_one_of(name, known):
                raise ValueError(f"delta: expected arms among {sorted(map(str, known))!r}, got {shown(name)}")
        made = _numbers([given.get(name, 0.0) for name in gaps["arm"]], given)
    else:
        made = _numbers(given, given)
        if made.shape != ():
            raise ValueError(f"delta: expected a number, numbers by arm, or a function, got {type(given).__name__}")
    if not np.isfinite(made).all():
        raise ValueError("delta: expected finite numbers, got one that is not")
    return np.broadcast_to(made, len(gaps)).copy()


def _numbers(values: Any, given: Any) -> Float[NDArray, "*shape"]:
    try:
        return real_array("delta", values)
    except TypeError:
        raise ValueError(
            f"delta: expected a number, numbers by arm, or a function to numbers, got {shown(given)}"
        ) from None


def _trial(
    frame: pd.DataFrame,
    arm: Hashable,
    control: Hashable,
    outcome: Hashable | Sequence[Hashable],
    patient: Hashable | None,
    visit: Hashable | None,
    covariates: Sequence[Hashable],
) -> Trial:
    if isinstance(covariates, str):
        raise ValueError(f"covariates: expected a list of columns, got {shown(covariates)}")
    names_of("covariates", covariates)
    if isinstance(outcome, list):
        if not outcome:
            raise ValueError("outcome: expected at least one column, got none")
        if patient is not None or visit is not None:
            raise ValueError(
                "outcome: expected one column beside patient and visit (a long frame), or several without them (a wide"
                " one, whose rows are the patients), got several columns beside them"
            )
        return Trial.from_wide(frame, arm=arm, outcomes=outcome, covariates=covariates, control=control)
    if patient is None or visit is None:
        raise ValueError(
            "patient, visit: expected the columns of a long frame that say who and when, got none; of a wide frame,"
            " give outcome as a list of columns"
        )
    return Trial.from_long(
        frame, patient=patient, visit=visit, arm=arm, outcome=outcome, covariates=covariates, control=control
    )
