"""One default configuration on four real tables under the not-MIWAE paper's protocol, with the sign not told.

Breast cancer comes with scikit-learn; the other tables are read from the folder that PYRO_MNAR_DATA names, or from
``../shared/data`` beside the checkout, and skipped where they are absent.
"""

import os
from pathlib import Path

import pytest
import torch

from pyro_mnar import Table, fit, impute
from pyro_mnar.cli.demo import iterative_imputer
from pyro_mnar.datasets.uci import breast_cancer, rmse, self_masked, uci_tables
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.infer.session import threads
from pyro_mnar.models import GINA, PartialVAE

DATA = Path(os.environ.get("PYRO_MNAR_DATA", Path(__file__).parents[2] / "shared" / "data"))
TABLES = uci_tables(DATA if DATA.is_dir() else None)


def score(model_class, masked, seed=0):
    table = Table.from_frame(masked.observed, dtype=torch.float32)
    model = model_class(table, seed=seed).float()
    guide = ZeroImpute(table, model.latent_dim, seed=seed).float()
    trained = fit(model, guide, table, seed=seed, progress=False)
    completed = impute(trained, table, num_draws=5, num_particles=100, seed=seed).mean()
    return rmse(completed, masked)


@pytest.mark.slow
def test_gina_recovers_breast_cancer_without_being_told_the_sign():
    with threads(1):
        # Published: MIWAE 1.20, not-MIWAE self-masking 0.74.
        assert score(GINA, self_masked(breast_cancer())) <= 0.74


@pytest.mark.slow
@pytest.mark.parametrize("name", ["banknote", "concrete", "red wine"])
def test_the_same_defaults_beat_mice_and_the_partial_vae(name):
    if name not in TABLES:
        pytest.skip(f"{name} is not in {DATA.name}/")
    masked = self_masked(TABLES[name]())
    with threads(1):
        gina, partial_vae = score(GINA, masked), score(PartialVAE, masked)
    mice = rmse(iterative_imputer(masked.observed, seed=0), masked)
    assert gina < min(mice, partial_vae)
