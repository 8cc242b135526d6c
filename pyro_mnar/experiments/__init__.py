"""The paper's tables and figures, one file an experiment: ``pyro-mnar experiment NAME``, or from Python.

An experiment is a description (:class:`Experiment`) that :func:`run_experiment` carries out: a tidy CSV of runs, which
a second call continues, tables beside the published figures, and the figures.
"""

from collections.abc import Callable

from pyro_mnar.experiments.ablation_experiment import ablation
from pyro_mnar.experiments.education_experiment import education
from pyro_mnar.experiments.experiment import Experiment, Published, Task
from pyro_mnar.experiments.recommender_experiment import recommender
from pyro_mnar.experiments.report import paired
from pyro_mnar.experiments.runner import run_experiment
from pyro_mnar.experiments.synthetic import synthetic_experiment
from pyro_mnar.experiments.uci_experiment import uci

EXPERIMENTS: dict[str, Callable[..., Experiment]] = {
    "ablation": ablation,
    "education": education,
    "recommender": recommender,
    "synthetic": synthetic_experiment,
    "uci": uci,
}

__all__ = [
    "EXPERIMENTS",
    "Experiment",
    "Published",
    "Task",
    "ablation",
    "education",
    "paired",
    "recommender",
    "run_experiment",
    "synthetic_experiment",
    "uci",
]
