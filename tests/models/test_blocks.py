"""GINA's default on columns that go missing together: one event with an R of its own, and no harm done."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pyro
import pytest
import torch
from sklearn.datasets import load_wine

from pyro_mnar import Fit, ImportanceWeightedELBO, Table, fit, impute
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.mechanisms import SelfMasking
from pyro_mnar.models import GINA

BLOCK = list(load_wine().feature_names[:6])


def wine_without_a_page(seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    complete = load_wine(as_frame=True).data
    frame = complete.copy()
    frame.loc[np.random.default_rng(seed).random(len(frame)) < 0.25, BLOCK] = np.nan
    return frame, complete


def pair(table: Table, **options: object) -> tuple[GINA, ZeroImpute]:
    model = GINA(table, seed=0, **options)
    return model, ZeroImpute(table, model.latent_dim, seed=0)


def bias(frame: pd.DataFrame, complete: pd.DataFrame, result: Fit, table: Table) -> float:
    """Of the imputed values, in standard deviations, the columns' mean."""
    error = (impute(result, table, num_draws=5).mean() - complete)[BLOCK][frame[BLOCK[0]].isna()]
    return float((error / complete[BLOCK].std()).mean().abs().mean())


def test_the_default_says_that_it_takes_them_for_one_event():
    table = Table.from_frame(wine_without_a_page()[0])
    with pytest.warns(UserWarning, match="go missing together: alcohol, malic_acid, .* one event"):
        model = GINA(table, seed=0)
    assert model.blocks is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert GINA(table, mechanism=SelfMasking, seed=0).blocks is None  # declared, so taken as declared


@pytest.mark.filterwarnings("ignore:columns that go missing together")
def test_the_events_are_scored_once_each_and_explain_their_gaps(own_store: None):
    frame, _ = wine_without_a_page()
    table = Table.from_frame(frame)
    model, guide = pair(table)
    with torch.no_grad():
        model.blocks.log_odds.fill_(-1.3)
    trace = pyro.poutine.trace(model).get_trace(table.batch())
    trace.compute_log_prob()
    together = torch.tensor(frame[BLOCK[0]].isna().tolist())
    expected = torch.nn.functional.logsigmoid(torch.where(together, -1.3, 1.3))
    torch.testing.assert_close(trace.nodes["r_blocks"]["log_prob"], expected)
    # What is left of R: cells that are seen, outside the events.
    logits, seen = trace.nodes["r"]["fn"].row.base_dist.base_dist.logits, table.mask & table.batch().incomplete
    of_seen = torch.where(seen, torch.nn.functional.logsigmoid(logits), 0.0)
    torch.testing.assert_close(trace.nodes["r"]["log_prob"], of_seen.sum(-1))
    # So nothing in a missing value moves the weight.
    bound = ImportanceWeightedELBO(2).loss(model, guide, table.batch())
    assert np.isfinite(bound)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:columns that go missing together")
def test_a_page_that_is_missing_at_random_is_imputed_without_bias():
    """Six columns explained by their own values each were 4 to 6 standard deviations off (seeds 0 and 1)."""
    frame, complete = wine_without_a_page()
    table = Table.from_frame(frame, dtype=torch.float32)
    model, guide = pair(table)
    result = fit(model.float(), guide.float(), table, epochs=700, progress=False)
    assert bias(frame, complete, result, table) < 0.3
    share = torch.sigmoid(model.blocks.log_odds).item()
    assert share == pytest.approx(frame[BLOCK[0]].isna().mean(), abs=0.02)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:columns that go missing together")
def test_a_fit_with_events_is_captured_and_comes_back_from_its_file(tmp_path):
    table = Table.from_frame(wine_without_a_page()[0])
    options = {"epochs": 3, "progress": False}
    eager = fit(*pair(table, forests=False), table, compile="eager", **options)
    graph = fit(*pair(table, forests=False), table, compile="graph", **options)
    assert np.isfinite(graph.history["bound"]).all()
    # The two draw different numbers: over seeds either's bound has a standard deviation of 8% so soon, and with a
    # forest it is near zero.
    assert graph.history["bound"].iloc[-1] == pytest.approx(eager.history["bound"].iloc[-1], rel=0.3)
    eager.save(tmp_path / "fit.pt")
    loaded = Fit.load(tmp_path / "fit.pt", *pair(table, forests=False))
    np.testing.assert_array_equal(impute(loaded, table).draws, impute(eager, table).draws)
