"""The table of a pooled analysis: estimates with honest errors, and how much of these is due to what was missing."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray

from pyro_mnar.imputation.pooling import RULES, JointTest, Parts, combined, degrees_of_freedom, draws_needed, wald
from pyro_mnar.messages import has_parts, is_finite, is_one_of, is_real, real_array, shown

_TITLES = {
    "barnard-rubin": "degrees of freedom of Barnard and Rubin (1999)",
    "rubin": "degrees of freedom of Rubin (1987)",
}

GREATEST = 1e150  # of estimates, variances and degrees of freedom: their squares are numbers
LEAST_DF = 0.01  # of which a 95 % interval is some 1e158 standard errors wide


@dataclass(frozen=True, eq=False)
class Pooled:
    """Estimates over several completed tables, by Rubin's rules; printed, a table of coefficients.

    Arrays have one entry a coefficient, ``(coefficients,)``, in the order of ``names``.

    Attributes:
        names: The coefficients.
        parts: Their means, and covariances within and between the draws.
        dfcom: Degrees of freedom of a complete table; infinite for a large sample.
        rule: Whose degrees of freedom: ``"barnard-rubin"`` (1999) or ``"rubin"`` (1987).
        confidence: Of the intervals.
        has_covariances: Whether the draws gave covariances of the coefficients, and not standard errors alone.
        note: What the draws leave out of account, in words; empty if there is nothing to say.
    """

    names: tuple[Hashable, ...]
    parts: Parts
    dfcom: float = math.inf
    rule: str = "barnard-rubin"
    confidence: float = 0.95
    has_covariances: bool = True
    note: str = ""

    def __post_init__(self) -> None:
        if not is_one_of(self.rule, RULES):
            raise ValueError(f"rule: expected one of {list(RULES)}, got {shown(self.rule)}")
        if not (is_real(self.confidence) and 0 < self.confidence < 1):
            raise ValueError(f"confidence: expected a number between 0 and 1, got {shown(self.confidence)}")
        if not ((is_finite(self.dfcom) and 0 < float(self.dfcom) <= GREATEST) or is_one_of(self.dfcom, (math.inf,))):
            raise ValueError(
                f"dfcom: expected a number above 0 and up to {GREATEST:g}, or infinity, got {shown(self.dfcom)}"
            )
        if (few := self.df < LEAST_DF).any():
            at = int(few.argmax())
            raise ValueError(
                f"coefficient {shown(self.names[at])}: expected at least {LEAST_DF} degrees of freedom, got"
                f" {self.df[at]:.2g} from variance {self.within[at]:.3g} within draws, {self.between[at]:.3g} between"
                f" them and dfcom={self.dfcom:g}: give each draw's squared standard errors, a larger dfcom, or"
                " rule='rubin'"
            )

    @property
    def num_draws(self) -> int:
        """m, number of completed tables."""
        return self.parts.num_draws

    @property
    def estimates(self) -> Float[NDArray, " coefficients"]:
        """Q̄, means over the draws."""
        return self.parts.estimates

    @property
    def covariance(self) -> pd.DataFrame:
        """T, the total covariance; off its diagonal only what lies between draws where these gave no covariances."""
        index = pd.Index(list(self.names), tupleize_cols=False)
        return pd.DataFrame(self.parts.total, index=index, columns=index)

    @property
    def within(self) -> Float[NDArray, " coefficients"]:
        """Ū, mean of the squared standard errors."""
        return np.diagonal(self.parts.within)

    @property
    def between(self) -> Float[NDArray, " coefficients"]:
        """B, variance of the estimates over draws."""
        return np.diagonal(self.parts.between)

    @cached_property
    def standard_errors(self) -> Float[NDArray, " coefficients"]:
        """√T."""
        return np.sqrt(np.diagonal(self.parts.total))

    @property
    def riv(self) -> Float[NDArray, " coefficients"]:
        """r, the relative increase in variance by what was missing."""
        added = (1 + 1 / self.num_draws) * self.between
        with np.errstate(over="ignore"):  # by the least variances there are it is infinite
            return np.divide(added, self.within, out=np.where(added > 0, np.inf, 0.0), where=self.within > 0)

    @property
    def lambda_(self) -> Float[NDArray, " coefficients"]:
        """λ, the share of the total variance that lies between draws."""
        added, total = (1 + 1 / self.num_draws) * self.between, np.diagonal(self.parts.total)
        return np.minimum(np.divide(added, total, out=np.zeros_like(total), where=total > 0), 1.0)  # but for rounding

    @cached_property
    def df(self) -> Float[NDArray, " coefficients"]:
        """Degrees of freedom of the t statistics."""
        return degrees_of_freedom(self.lambda_, self.num_draws, self.dfcom, self.rule)

    @property
    def fmi(self) -> Float[NDArray, " coefficients"]:
        """Fraction of missing information: what share of the information the gaps took."""
        return self.lambda_ + (1 - self.lambda_) * 2 / (self.df + 3)

    @property
    def t(self) -> Float[NDArray, " coefficients"]:
        """Estimates over their standard errors."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.estimates / self.standard_errors

    @property
    def p(self) -> Float[NDArray, " coefficients"]:
        """Two-sided probability of such a t or a larger one if the coefficient were zero."""
        from scipy import stats  # takes half as long to import as torch

        return 2 * stats.t.sf(np.abs(self.t), self.df)

    @property
    def interval(self) -> Float[NDArray, "coefficients 2"]:
        """Lower and upper ends of the intervals."""
        from scipy import stats

        half = stats.t.isf((1 - self.confidence) / 2, self.df) * self.standard_errors
        return np.stack([self.estimates - half, self.estimates + half], axis=1)

    @property
    def relative_efficiency(self) -> Float[NDArray, " coefficients"]:
        """Of m draws against infinitely many: 1 / (1 + fmi / m)."""
        return 1 / (1 + self.fmi / self.num_draws)

    @property
    def monte_carlo_errors(self) -> Float[NDArray, " coefficients"]:
        """By how much the estimates would differ with other draws: √(B / m)."""
        return np.sqrt(self.between / self.num_draws)

    @property
    def draws_needed(self) -> Float[NDArray, " coefficients"]:
        """How many draws make standard errors repeatable to 5 % (von Hippel, 2020)."""
        return draws_needed(self.fmi, self.num_draws)

    def wald(self, names: Sequence[Hashable] | None = None) -> JointTest:
        """D1: are these coefficients all zero?

        Args:
            names: Which of them; all by default.

        Raises:
            ValueError: If there is no such coefficient, or none is named; or if the draws gave standard errors alone,
                so that nothing tells how coefficients go together.
        """
        if isinstance(names, str):
            raise TypeError(f"names: expected a list of coefficients, got the string {names!r}")
        if names is not None and not has_parts(names):
            raise TypeError(f"names: expected a list of coefficients, got {shown(names)}")
        names = self.names if names is None else list(names)
        for name in names:
            if not is_one_of(name, self.names):
                raise ValueError(f"coefficient {shown(name)}: expected one of {list(self.names)!r}")
        if not names:
            raise ValueError("names: expected at least one coefficient, got none")
        if not self.has_covariances and len(names) > 1:
            raise ValueError("expected covariances of the coefficients from every draw, got standard errors alone")
        at = [self.names.index(name) for name in names]
        block = np.ix_(at, at)
        parts = Parts(self.estimates[at], self.parts.within[block], self.parts.between[block], self.num_draws)
        return wald(parts, self.dfcom if self.rule == "barnard-rubin" else math.inf)

    def to_frame(self) -> pd.DataFrame:
        """One row a coefficient, everything that is printed."""
        lower, upper = self.interval.T
        columns = {
            "estimate": self.estimates,
            "standard_error": self.standard_errors,
            "t": self.t,
            "df": self.df,
            "p": self.p,
            "lower": lower,
            "upper": upper,
            "fmi": self.fmi,
            "riv": self.riv,
            "lambda": self.lambda_,
            "relative_efficiency": self.relative_efficiency,
            "monte_carlo_error": self.monte_carlo_errors,
            "draws_needed": self.draws_needed.astype(int),
        }
        return pd.DataFrame(columns, index=pd.Index(list(self.names), name="coefficient", tupleize_cols=False))

    def __repr__(self) -> str:
        return "\n\n".join([self.to_frame().rename_axis(None).to_string(float_format=_short), *self._told()])

    def _repr_html_(self) -> str:
        told = "".join(f"<p>{line}</p>" for line in self._told())
        return self.to_frame().to_html(float_format=_short, notebook=True) + told

    def _told(self) -> list[str]:
        complete = "a large sample" if math.isinf(self.dfcom) else f"{self.dfcom:g} in a complete table"
        told = [
            f"{self.num_draws} draws; intervals of {self.confidence:.0%}; {_TITLES[self.rule]}"
            + (f", {complete}." if self.rule == "barnard-rubin" else ".")
        ]
        most = int(self.draws_needed.max(initial=0))
        if most > self.num_draws:
            told.append(
                f"Standard errors would differ by more than 5 % with other draws: take {most} draws, or report the"
                " Monte Carlo errors."
            )
        return told + ([self.note] if self.note else [])


def pool_scalar(
    estimates: ArrayLike,
    variances: ArrayLike,
    *,
    dfcom: float = math.inf,
    rule: str = "barnard-rubin",
    confidence: float = 0.95,
    names: Sequence[Hashable] | None = None,
) -> Pooled:
    """Combine estimates of analyses that were run elsewhere.

    Args:
        estimates: One a draw, ``(draws,)``, or several, ``(draws, coefficients)``.
        variances: Their squared standard errors, in the same shape.
        dfcom: Degrees of freedom that a complete table would have, such as rows less coefficients; infinite for a large
            sample.
        rule: ``"barnard-rubin"`` (1999), or ``"rubin"`` (1987), SAS's default.
        confidence: Of the intervals.
        names: Of the coefficients; numbered by default.

    Raises:
        ValueError: If shapes differ, there are fewer than two draws, a number is not finite, a variance is negative, or
            a coefficient is left without degrees of freedom.

    Example:
        >>> pooled = pool_scalar([1.5, 2, 2.5, 1.8, 2.2], [0.36, 0.44, 0.40, 0.38, 0.42], dfcom=96)
        >>> round(float(pooled.df[0]), 3), round(float(pooled.fmi[0]), 3)
        (26.158, 0.351)
    """
    q, u = _numbers("estimates", estimates), _numbers("variances", variances)
    if q.shape != u.shape or q.ndim not in (1, 2):
        raise ValueError(
            "expected estimates and variances of one shape, (draws,) or (draws, coefficients), got"
            f" {q.shape} and {u.shape}"
        )
    if not len(q):
        raise ValueError("expected at least two draws, got none")
    q, u = q.reshape(len(q), -1), u.reshape(len(q), -1)
    if isinstance(names, str) or not (names is None or has_parts(names)):
        raise TypeError(f"names: expected a list of names, got {shown(names)}")
    given = tuple(range(q.shape[1])) if names is None else tuple(names)
    if len(given) != q.shape[1]:
        raise ValueError(f"names: expected {q.shape[1]}, one a coefficient, got {len(given)}")
    parts = combined(q, u[:, :, None] * np.eye(q.shape[1]))
    return Pooled(given, parts, dfcom, rule, confidence, has_covariances=q.shape[1] == 1)


def _numbers(name: str, given: Any) -> Float[NDArray, "..."]:
    numbers = real_array(name, given)
    if np.abs(numbers[np.isfinite(numbers)]).max(initial=0.0) > GREATEST:
        raise ValueError(f"{name}: expected numbers of a size up to {GREATEST:g}, whose squares are finite")
    return numbers


def _short(number: float) -> str:
    return f"{number:.4g}"
