"""Table 2: right and wrong answers imputed, and questions chosen one by one, on Eedi or on a simulated world.

**Split.**  The paper's "90% train/10% test/10% validation" adds up to 110 %.  Here a tenth of the students is kept for
the choice of questions, and of the others' answers a tenth, at random, is to be imputed; nothing is selected, so there
is no validation set.

**Imputation.**  What a student would answer if asked, p(X_u | X_o), by the debiased error.  Where every answer is known
(the simulated world), also the answers that students skipped, given that they skipped them, p(X_u | X_o, R).

**Questions.**  To each student kept out, starting from no answer, by the highest information reward.  Only questions
whose answer is known can be asked.  Eedi's files tell no difficulty, so a question's level there is the tenth in which
its share of wrong training answers lies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from os import PathLike
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.stats import rankdata

from pyro_mnar.acquisition.question_order import level_changes
from pyro_mnar.acquisition.simulation import simulate_acquisition
from pyro_mnar.baselines.ratings.response_networks import (
    ResponseNetwork,
    response_gina,
    response_not_miwae,
    response_pvae,
)
from pyro_mnar.datasets import ItemResponses, Ratings, eedi, item_responses
from pyro_mnar.experiments.experiment import Experiment, Published, Task
from pyro_mnar.experiments.metrics import debiased_mse
from pyro_mnar.imputation import impute
from pyro_mnar.mechanisms import LatentDependent

SOURCE = "Ma & Zhang (2021), table 2"
PUBLISHED: dict[str, dict[str, tuple[float, float | None]]] = {
    "PVAE": {
        "debiased_mse": (0.194, 0.001),
        "after_correct": (0.131, 0.138),
        "after_incorrect": (-0.101, 0.160),
        "p_value": (0.514, None),
    },
    "Not-MIWAE": {
        "debiased_mse": (0.192, 0.000),
        "after_correct": (0.062, 0.142),
        "after_incorrect": (-0.073, 0.179),
        "p_value": (0.561, None),
    },
    "GINA": {
        "debiased_mse": (0.188, 0.001),
        "after_correct": (0.945, 0.151),
        "after_incorrect": (-0.353, 0.189),
        "p_value": (1.01e-7, None),
    },
}
SHARE_APART = 0.1  # of the students for the choice of questions, and of the others' answers for imputation
NUM_LEVELS = 10
SIMULATED: dict[str, Any] = {"shape": (400, 25)}
QUICK_SIMULATED: dict[str, Any] = {"shape": (80, 10), "answered": 0.5}
METRICS = {
    "debiased_mse": "mean over questions of the squared error of answers set apart, p(X_u | X_o)",
    "after_correct": "mean change of level from one question to the next after a correct answer",
    "after_incorrect": "the same after a wrong answer",
    "p_value": "t-test of the two changes, steps taken for independent",
    "p_value_clustered": "the same test with errors that a student's steps share",
}
SKIPPED = {"debiased_mse_skipped": "the same of all answers that were skipped, p(X_u | X_o, R)"}


class Exam(NamedTuple):
    """One split of the data; students are numbered from 0 on either side.

    Attributes:
        answers: Of the students to learn from, 0, 1 and NaN; those to be imputed are still there.
        hidden: Which answers are to be imputed; as ``answers``.
        features: What is known of these students, or None.
        skipped: Truth of the answers that were not given, NaN elsewhere; None where nobody knows.
        expected: P(correct) of these students in a simulated world, or None.
        kept_out: Answers, 0, 1 and NaN, of the students who are asked.
        kept_out_features: What is known of them, or None.
        levels: Difficulty of each question.
    """

    answers: pd.DataFrame
    hidden: NDArray[np.bool_]
    features: pd.DataFrame | None
    skipped: Float[NDArray, "students questions"] | None
    expected: Float[NDArray, "students questions"] | None
    kept_out: pd.DataFrame
    kept_out_features: pd.DataFrame | None
    levels: pd.Series


class Outcome(NamedTuple):
    """What a system gives of an exam.

    Attributes:
        if_asked: P(correct) of each cell of ``answers`` to be imputed; ``(students, questions)``.
        given_skipped: P(correct) of each cell that was skipped, given that; the same shape.
        questions: Names of the questions asked of each student kept out, in order; None where none was left.
    """

    if_asked: Float[NDArray, "students questions"]
    given_skipped: Float[NDArray, "students questions"]
    questions: pd.DataFrame


class Examiner(Protocol):
    """A system of this experiment: imputes answers and chooses questions."""

    @property
    def name(self) -> str:
        """What tables call it."""
        ...

    def examine(self, exam: Exam, *, seed: int) -> Outcome:
        """Learn from the answers, impute, ask."""
        ...


@dataclass(frozen=True)
class Network:
    """A model and a guide; asks by the information reward.

    Attributes:
        network: The pair.
        steps: Questions to ask of each student.
        num_samples: For the information reward.
        num_particles: For imputations; for each sample of a reward a tenth.
    """

    network: ResponseNetwork
    steps: int
    num_samples: int = 20
    num_particles: int = 200

    @property
    def name(self) -> str:
        """The network's."""
        return self.network.name

    def examine(self, exam: Exam, *, seed: int) -> Outcome:
        """Train, impute both ways, ask."""
        table = self.network.table(exam.answers, exam.features).hold_out(exam.hidden)
        fit = self.network.train(table, seed=seed)
        filled = []
        for use_mechanism in (False, True):
            imputations = impute(
                fit, table, num_draws=1, num_particles=self.num_particles, use_mechanism=use_mechanism, seed=seed
            )
            values = np.full(exam.answers.shape, np.nan)
            values[tuple(imputations.cells)] = imputations.means
            filled.append(values)
        asked = self.network.table(exam.kept_out, exam.kept_out_features)
        unknown = {name: exam.kept_out[name].isna() for name in exam.kept_out}
        students = table.new_rows(asked.frame, not_applicable=unknown)
        curve = simulate_acquisition(
            fit, students, steps=self.steps, num_samples=self.num_samples, num_particles=self.num_particles // 10,
            seed=seed,
        )  # fmt: skip
        return Outcome(filled[0], filled[1], curve.questions)


@dataclass(frozen=True)
class ShareCorrect:
    """Each question's share of correct training answers; asks at random: what needs no model.

    Attributes:
        steps: Questions to ask of each student.
        name: What tables call it.
    """

    steps: int
    name: str = "question's share, asked at random"

    def examine(self, exam: Exam, *, seed: int) -> Outcome:
        """Count, and draw questions."""
        known = exam.answers.mask(exam.hidden)
        share = known.mean().fillna(known.stack().mean()).to_numpy()
        everywhere = np.broadcast_to(share, exam.answers.shape)
        return Outcome(everywhere, everywhere, _at_random(exam.kept_out, self.steps, seed))


@dataclass(frozen=True)
class KnownTruth:
    """P(correct) of the simulated world, whatever was skipped; asks at random.

    Attributes:
        steps: Questions to ask of each student.
        name: What tables call it.
    """

    steps: int
    name: str = "true ability, asked at random"

    def examine(self, exam: Exam, *, seed: int) -> Outcome:
        """Look it up.

        Raises:
            ValueError: If there is no truth.
        """
        if exam.expected is None:
            raise ValueError("expected a simulated world, whose truth is known")
        return Outcome(exam.expected, exam.expected, _at_random(exam.kept_out, self.steps, seed))


def education(*, folder: str | PathLike[str] | None = None, quick: bool = False) -> Experiment:
    """The experiment.

    Args:
        folder: Where the user's copy of Eedi's tasks 3 and 4 is; by default answers are simulated.
        quick: A small world and little training: it shows that all runs, and nothing else.

    Raises:
        FileNotFoundError: If a folder is given and does not hold Eedi's files.
    """
    simulated = folder is None
    steps = 3 if quick else 8
    training: dict[str, Any] = {"epochs": 2} if quick else {"epochs": 200, "learning_rate": 5e-3} if simulated else {}
    networks = [
        response_pvae(**training),
        response_not_miwae(**training),
        response_gina(**training),
        response_gina(LatentDependent, name="GINA, own value and latent", **training),
    ]
    systems: list[Examiner] = [ShareCorrect(steps), *(Network(network, steps) for network in networks)]
    world = QUICK_SIMULATED if quick else SIMULATED
    data_name = "simulated" if simulated else "Eedi"
    return Experiment(
        name="education",
        title="Answers imputed, and questions chosen for students of whom nothing is known.",
        systems=[*systems, KnownTruth(steps)] if simulated else systems,
        data={data_name: partial(_simulated, world) if folder is None else partial(_users_own, folder)},
        run=run,
        metrics={**METRICS, **SKIPPED} if simulated else METRICS,
        published=[
            Published(system, data_name, metric, value, SOURCE, error)
            for system, figures in PUBLISHED.items()
            for metric, (value, error) in figures.items()
        ],
        settings={"world": world} if simulated else {},
        notes=["Published figures are of Eedi; beside a simulated world compare orders, not numbers."],
    )


def run(task: Task) -> dict[str, float]:
    """Examine, and compare with what was set apart."""
    exam: Exam = task.data
    outcome: Outcome = task.system.examine(exam, seed=task.seed)
    changes = level_changes(outcome.questions, exam.kept_out, exam.levels)
    results = {
        "debiased_mse": _debiased(exam.answers.to_numpy(), outcome.if_asked, exam.hidden),
        "after_correct": changes.after_correct,
        "after_incorrect": changes.after_incorrect,
        "p_value": changes.p_value,
        "p_value_clustered": changes.p_value_clustered,
    }
    if exam.skipped is not None:
        skipped = _debiased(exam.skipped, outcome.given_skipped, ~np.isnan(exam.skipped))
        results["debiased_mse_skipped"] = skipped
    return results


def split(data: Ratings, levels: pd.Series, seed: int) -> Exam:
    """Keep students and answers apart.

    Args:
        data: Answers in ``train``.
        levels: Difficulty of each column, by number.
        seed: Of the split.
    """
    rng = np.random.default_rng(seed)
    students, questions = data.shape
    apart = np.zeros(students, dtype=bool)
    apart[rng.permutation(students)[: max(1, round(SHARE_APART * students))]] = True
    given = np.full(data.shape, np.nan)
    given[data.train["row"], data.train["column"]] = data.train["value"]
    names = pd.RangeIndex(questions)
    answers = pd.DataFrame(given[~apart], columns=names)
    truth = data if isinstance(data, ItemResponses) else None
    complete = None if truth is None else truth.complete.astype(np.float64)
    features = data.row_features
    return Exam(
        answers=answers,
        hidden=answers.notna().to_numpy() & (rng.random(answers.shape) < SHARE_APART),
        features=None if features is None else features[~apart].reset_index(drop=True),
        skipped=None if complete is None else np.where(answers.isna(), complete[~apart], np.nan),
        expected=None if truth is None else truth.expected[~apart],
        kept_out=pd.DataFrame(given[apart] if complete is None else complete[apart], columns=names),
        kept_out_features=None if features is None else features[apart].reset_index(drop=True),
        levels=levels,
    )


def _simulated(world: Mapping[str, Any], seed: int) -> Exam:
    data = item_responses(seed, **world)
    assert data.column_features is not None
    return split(data, data.column_features["level"], seed)


def _users_own(folder: str | PathLike[str], seed: int) -> Exam:
    data = eedi(folder)
    wrong = 1 - data.train.groupby("column")["value"].mean().reindex(range(data.shape[1]), fill_value=0.5)
    tenth = np.ceil(rankdata(wrong, method="average") / len(wrong) * NUM_LEVELS)
    return split(data, pd.Series(tenth, index=wrong.index), seed)


def _debiased(
    truth: Float[NDArray, "students questions"],
    predicted: Float[NDArray, "students questions"],
    cells: NDArray[np.bool_],
) -> float:
    return debiased_mse(truth[cells], predicted[cells], np.nonzero(cells)[1])


def _at_random(answers: pd.DataFrame, steps: int, seed: int) -> pd.DataFrame:
    """Questions whose answer is known, in any order."""
    rng, known = np.random.default_rng(seed), answers.notna().to_numpy()
    asked = np.full((len(answers), steps), None, dtype=object)
    for student, row in enumerate(known):
        order = rng.permutation(np.flatnonzero(row))[:steps]
        asked[student, : len(order)] = answers.columns[order].tolist()
    return pd.DataFrame(asked, index=answers.index, columns=range(1, steps + 1), dtype=object)
