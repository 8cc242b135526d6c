"""Every kind of column, self-masked: the declared mechanism finds the truth, ignoring it does not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pyro_mnar import Table, fit, impute
from pyro_mnar.datasets.one_kind import OF_KIND, OneKind, one_kind
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.models import Ignorable, SelfMasking


def errors(data: OneKind, model_class: type, seed: int, *, epochs: int, num_particles: int) -> np.ndarray:
    """Of the mean of Y, or of the shares of its levels, in standard errors of the complete data's."""
    table = Table.from_frame(data.frame, kinds={"y": data.kind}, auxiliary=[])
    model = model_class(table, latent_dim=1, seed=seed)
    guide = ZeroImpute(table, 1, seed=seed)
    fitted = fit(model, guide, table, seed=seed, num_particles=num_particles, epochs=epochs, progress=False)
    imputations = impute(fitted, table, num_draws=1, num_particles=200, seed=seed)
    truth, found = data.complete["y"], imputations.mean()["y"]
    if data.kind.name == "categorical":
        truth, found = pd.get_dummies(truth, dtype=float), pd.get_dummies(found, dtype=float)
        shares = imputations.probabilities("y")
        found.loc[shares.index] = shares
    return np.ravel((found.astype(float).mean() - truth.mean()) / (truth.std() / np.sqrt(len(truth))))


@pytest.mark.slow
@pytest.mark.parametrize("kind", OF_KIND)
def test_self_masked_column_is_recovered(kind: str) -> None:
    """More seeds: benchmarks/kinds.py."""
    data = one_kind(kind, seed=1)
    assert np.abs(errors(data, SelfMasking, 1, epochs=30, num_particles=5)).max() < 3
    # Nothing is to be found here, so a third of the training is enough.
    assert np.abs(errors(data, Ignorable, 1, epochs=10, num_particles=5)).max() > 5


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match=r"kind: expected one of \['binary', .*, got 'nominal'"):
        one_kind("nominal", 0)
