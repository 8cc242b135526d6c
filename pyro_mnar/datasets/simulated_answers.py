"""A world of answers with known truth, of the shape of Eedi's (the paper's section 6.3): who is wrong, or weak, skips.

    θ_i = 0.6·age_i - 0.5·premium_i + N(0, 0.8²)                  ability; age standardised, premium 0 or 1
    P(x_ij = 1) = σ(d_j (θ_i - δ_j))                              answered correctly, if it is answered
    P(r_ij = 1 | x_ij, θ_i) = σ(a + of_answer·x_ij + of_ability·θ_i + popularity_j)

with δ ~ N(0, 1), d ~ LogNormal(0.2, 0.3²), popularity ~ N(0, 0.5²).  A question's level is the rank of δ_j in so many
equal groups.  Age, the pupil premium and gender are seen of every student; given the ability, they cause no skipping.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int8
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import rankdata

from pyro_mnar.datasets.ratings import Ratings, cells, check_shape, check_share, check_slope, no_cells
from pyro_mnar.messages import seed_of, whole_number

YEARS = (11, 16)  # youngest and oldest


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ItemResponses(Ratings):
    """Answers given in ``train`` (1 if correct, else 0), their truth, and what is known of students and questions.

    ``row_features`` has ``age``, ``premium`` and ``gender``, ``column_features`` the ``level`` of each question, from 1
    (easy).  ``test`` is empty, as Eedi's is: :meth:`split` sets answers apart.

    Attributes:
        complete: Every answer, given or not; ``(rows, columns)``.
        ability: θ of each student; ``(rows,)``.
        expected: P(correct); ``(rows, columns)``.
        propensities: P(answered), given the answer; ``(rows, columns)``.
    """

    complete: Int8[NDArray, "rows columns"]
    ability: Float[NDArray, " rows"]
    expected: Float[NDArray, "rows columns"]
    propensities: Float[NDArray, "rows columns"]


def item_responses(
    seed: int,
    *,
    shape: tuple[int, int] = (1000, 40),
    answered: float = 0.3,
    of_answer: float = 1.5,
    of_ability: float = 0.7,
    num_levels: int = 10,
) -> ItemResponses:
    """Draw students, questions, all answers, and which of them are given.

    Args:
        seed: Same arguments, same world.
        shape: Number of students and of questions; Eedi's tasks 3 and 4 have 4,918 × 948.
        answered: Expected share of cells with an answer (Eedi below 0.3).
        of_answer: Change of the log-odds of answering where the answer is correct.
        of_ability: The same for one more unit of ability.
        num_levels: Levels of difficulty.

    Raises:
        ValueError: If the share is not between 0 and 1, or there are more levels than questions.
    """
    check_share("answered", answered)
    check_shape(shape)
    check_slope("of_answer", of_answer)
    check_slope("of_ability", of_ability)
    if not 1 <= whole_number("num_levels", num_levels) <= shape[1]:
        raise ValueError(f"num_levels: expected from 1 to {shape[1]}, the number of questions, got {num_levels}")
    rng = np.random.default_rng(seed_of(seed))
    students, questions = shape
    age = rng.integers(YEARS[0], YEARS[1] + 1, size=students)
    premium = (rng.random(students) < 0.3).astype(int)
    gender = rng.choice(["f", "m", "x"], size=students, p=[0.48, 0.48, 0.04])
    years = np.arange(YEARS[0], YEARS[1] + 1)
    ability = 0.6 * (age - years.mean()) / years.std() - 0.5 * premium + 0.8 * rng.normal(size=students)
    difficulty, discrimination = rng.normal(size=questions), rng.lognormal(0.2, 0.3, size=questions)
    expected = expit(discrimination * (ability[:, None] - difficulty))
    correct = rng.random(shape) < expected
    log_odds = of_answer * correct + of_ability * ability[:, None] + 0.5 * rng.normal(size=questions)
    ends = np.log(answered / (1 - answered)) - np.array([log_odds.max(), log_odds.min()])
    intercept = brentq(lambda a: float(expit(log_odds + a).mean()) - answered, *ends, xtol=1e-6)
    propensities = expit(log_odds + intercept)
    given = rng.random(shape) < propensities

    rows, columns = np.nonzero(given)
    train = cells(rows, columns, correct[given].astype(np.int64))
    level = np.ceil(rankdata(difficulty, method="ordinal") / questions * num_levels).astype(int)
    return ItemResponses(
        train=train,
        test=no_cells(train),
        shape=shape,
        row_labels=pd.RangeIndex(students, name="student"),
        column_labels=pd.RangeIndex(questions, name="question"),
        row_features=pd.DataFrame({"age": age, "premium": premium, "gender": gender}),
        column_features=pd.DataFrame({"level": level}),
        complete=correct.astype(np.int8),
        ability=ability,
        expected=expected,
        propensities=propensities,
    )
