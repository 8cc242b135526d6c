"""The self-masked mixture of normals: what it says, where it starts, and that a file brings it back."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import ndtr
from torch.special import log_ndtr

from pyro_mnar import Fit, ImportanceWeightedELBO, Table, fit, impute
from pyro_mnar.baselines import normal_mixture_models, start_normal_mixture
from pyro_mnar.graphs.recovery import missingness_graph_of
from pyro_mnar.guides import FromModel
from pyro_mnar.models import NormalMixture
from pyro_mnar.tables.constraints import SumsTo

pytestmark = pytest.mark.usefixtures("own_store")


def clusters(count: int = 400, seed: int = 0, slope: float = 2.0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two clusters of three columns, and the same with high values of the first two missing."""
    random = np.random.default_rng(seed)
    label = random.random(count) < 0.4
    centres = np.array([[-1.0, -1.2, -0.8], [1.2, 1.0, 1.4]])[label.astype(int)]
    noise = random.multivariate_normal(np.zeros(3), [[0.5, 0.3, 0.1], [0.3, 0.6, 0.2], [0.1, 0.2, 0.4]], count)
    truth = pd.DataFrame(centres + noise, columns=list("abc"))
    missing = random.random((count, 3)) < ndtr(slope * (truth.to_numpy() - 0.5)) * [1.0, 1.0, 0.0]
    return truth, truth.mask(missing)


def table_of(frame: pd.DataFrame, **options: Any) -> Table:
    return Table.from_frame(frame, dtype=torch.float64, **options)


def test_a_row_is_scored_as_by_quadrature() -> None:
    """With one value missing the proposal is nearly the posterior; 1e-3 is ten standard errors."""
    _, frame = clusters(60)
    table = table_of(frame)
    model = NormalMixture(table, num_classes=2, seed=1).double()
    model.mechanism.put_lines(slope=torch.tensor([-1.5, -0.5, 0.0]))
    batch = table.batch()
    row = int(((~batch.mask).sum(1) == 1).nonzero()[0])
    alone = batch.take(torch.tensor([row]))
    with torch.no_grad():
        weights = ImportanceWeightedELBO(20_000).particles(model, FromModel(), alone).log_weights[:, 0]
        at = int((~alone.mask[0]).nonzero()[0])
        points = torch.linspace(-9.0, 9.0, 4001)
        rows = alone.x.repeat(4001, 1)
        rows[:, at] = points
        normal = torch.distributions.MultivariateNormal(model.loc[:, None], scale_tril=model.root[:, None])
        log_x = (normal.log_prob(rows) + model.logits.log_softmax(0)[:, None]).logsumexp(0)
        signs = torch.where(alone.mask[0], 1.0, -1.0)
        signs[~batch.incomplete] = 0.0
        log_r = torch.where(signs != 0, log_ndtr(signs * model._predictor(rows)), 0.0).sum(-1)
        exact = (log_x + log_r).exp().sum() * (points[1] - points[0])
    assert float(weights.exp().mean()) == pytest.approx(float(exact), rel=1e-3)


def test_its_graph_is_self_masking() -> None:
    table = table_of(clusters(60)[1])
    model = NormalMixture(table, num_classes=2, seed=0).double()
    graph = missingness_graph_of(model, table.batch())  # by looking at what moves the mask
    assert {d: set(graph.parents(d)) for d in (0, 1)} == {0: {0}, 1: {1}}


@pytest.mark.slow
def test_the_start_finds_clusters_and_what_masks_them() -> None:
    """Restored values beat a normal's by far, and training from there leaves them where they are."""
    truth, frame = clusters(200)
    table = table_of(frame)
    model = start_normal_mixture(NormalMixture(table, num_classes=2, seed=0).double(), table, rounds=80, burn_in=55)
    assert (model.mechanism.slope[:2] < -0.5).all()  # nobody told the sign
    assert float(model.mechanism.slope[2].detach()) == 0.0
    gaps = frame.isna().to_numpy()[:, :2]

    def error(fitted: Fit) -> float:
        means = impute(fitted, table, num_draws=1, num_particles=20).mean()
        return float(np.sqrt(np.mean((means - truth).to_numpy()[:, :2][gaps] ** 2)))

    started = error(Fit(model, FromModel(), table.schema))
    assert started < 0.75
    fitted = fit(model, FromModel(), table, epochs=2, learning_rate=1e-3, progress=False)
    assert error(fitted) < started + 0.05


def test_a_file_brings_it_back(tmp_path: Path) -> None:
    table = table_of(clusters(60)[1])
    model = start_normal_mixture(
        NormalMixture(table, num_classes=2, sign=-1, seed=0).double(), table, rounds=60, burn_in=55
    )
    fitted = fit(model, FromModel(), table, epochs=1, progress=False)
    fitted.save(tmp_path / "fit.pt")
    loaded = Fit.load(tmp_path / "fit.pt")
    assert type(loaded.model) is NormalMixture and type(loaded.guide) is FromModel
    first, second = (impute(one, table, num_draws=2, num_particles=5).mean() for one in (fitted, loaded))
    pd.testing.assert_frame_equal(first, second)
    torch.testing.assert_close(loaded.model.within, model.within)


def test_the_penalty_holds_up_a_class_of_one_row() -> None:
    table = table_of(clusters(30)[1].iloc[:6])
    model = NormalMixture(table, num_classes=3, seed=0).double()
    fit(model, FromModel(), table, epochs=20, learning_rate=0.5, num_particles=1, progress=False, compile="eager")
    assert float(torch.linalg.eigvalsh(model.root @ model.root.mT).min().detach()) > 0.05


@pytest.mark.slow
def test_steps_and_imputations_are_captured(caplog: pytest.LogCaptureFixture) -> None:
    table = table_of(clusters(60)[1][["a", "c"]])
    model = NormalMixture(table, num_classes=2, seed=0).double()
    with caplog.at_level(logging.INFO, "pyro_mnar"):
        fitted = fit(model, FromModel(), table, epochs=3, progress=False, compile="graph")
        impute(fitted, table, num_draws=2, num_particles=3, compile="graph")
    said = [record.getMessage() for record in caplog.records]
    assert "training steps: graph (as asked for)" in said
    assert "imputation: graph (as asked for)" in said


def test_as_systems_they_fill_gaps_and_average() -> None:
    _, frame = clusters(40)
    options: dict[str, Any] = {"start": {"rounds": 54, "burn_in": 52}, "epochs": 1, "num_particles": 2}
    table = table_of(frame)
    average = normal_mixture_models(-1, **options)
    assert [system.name for system in average.systems] == ["normal mixture model, known sign"] * 3
    two = replace(average, systems=average.systems[:2])
    completed = two.complete(table, seed=0)
    apart = [system.complete(table, seed=0) for system in two.systems]
    pd.testing.assert_frame_equal(completed, (apart[0] + apart[1]) / 2)
    assert completed.notna().all().all()
    pd.testing.assert_frame_equal(completed.where(frame.notna()), frame)


def test_restarts_and_sums() -> None:
    """Restarts run in turn; a sum of which a part follows from the others has no proposal, and says so."""
    frame = clusters(30)[1].assign(t=lambda f: f.a + f.b)
    frame.loc[frame.t.isna(), "t"] = 0.5
    table = table_of(frame, kinds=dict.fromkeys("abct", "continuous"))
    options: dict[str, Any] = {"epochs": 1, "num_particles": 2, "progress": False, "compile": "eager"}
    fitted = fit(NormalMixture(table, num_classes=2, seed=0).double(), FromModel(), table, restarts=2, **options)
    assert fitted.restarts.bound.nunique() == 2
    with pytest.raises(ValueError, match="site 'x': a part of a sum follows from the others"):
        impute(fitted, table, num_draws=1, num_particles=5, constraints=[SumsTo(["a", "b"], total="t")])


def test_what_it_does_not_see_is_refused() -> None:
    _, frame = clusters(30)
    with pytest.raises(ValueError, match="auxiliary 'c': expected a column of X"):
        NormalMixture(table_of(frame, auxiliary=["c"]))
    with pytest.raises(ValueError, match="expected no U"):
        NormalMixture(table_of(frame, auxiliary="mask"))
    with pytest.raises(ValueError, match="num_classes: expected at least 1"):
        NormalMixture(table_of(frame), num_classes=0)
    words = frame.assign(c=np.where(frame.c > 0, "yes", "no"))
    with pytest.raises(ValueError, match="site 'x', column 'c': expected real numbers"):
        fit(NormalMixture(table_of(words), seed=0).double(), FromModel(), table_of(words), progress=False)
