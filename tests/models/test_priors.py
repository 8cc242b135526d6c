"""Models draw z from their own p(z|u), row by row, and batches keep rows together."""

from __future__ import annotations

import pyro.poutine as poutine
import pytest
import torch

from checks import table_with_gaps
from pyro_mnar import Batch
from pyro_mnar.models import GINA, LatentDependent, SelfMasking

pytestmark = pytest.mark.usefixtures("own_store")


@pytest.mark.parametrize("model_class", [GINA, LatentDependent, SelfMasking])
def test_the_latents_law_is_the_priors_given_u(model_class: type) -> None:
    table = table_with_gaps()
    model, batch = model_class(table, latent_dim=2, seed=0), table.batch()
    with torch.no_grad():
        for parameter in model.prior.parameters():
            parameter.add_(torch.linspace(0.5, 1.5, parameter.numel()).view(parameter.shape))
    z = poutine.trace(model).get_trace(batch).nodes["z"]
    expected = model.prior(batch.aux)
    value = torch.randn(len(batch), 2)
    torch.testing.assert_close(z["fn"].log_prob(value), expected.log_prob(value))
    assert expected.mean.std(0).min() > 0.1 and expected.mean.mean().abs() > 0.1  # no standard normal, and of u


def test_rows_that_are_taken_keep_all_that_is_theirs() -> None:
    """Each field says which row it came from."""
    of = torch.arange(6.0)
    batch = Batch.of(of[:, None] + 1, torch.ones(6, 1, dtype=torch.bool), of[:, None] + 2, lower=of[:, None] - 3)
    taken = batch.take(torch.tensor([4, 1, 5]))
    rows = torch.tensor([4.0, 1.0, 5.0])
    for name, shift in (("x", 1.0), ("aux", 2.0), ("lower", -3.0), ("index", 0.0)):
        torch.testing.assert_close(getattr(taken, name).squeeze(-1).double(), rows + shift)
    sources = [*batch.minibatches(2, torch.Generator().manual_seed(0)), Batch.joined([taken, batch])]
    for one in sources:
        torch.testing.assert_close(one.aux - one.x, torch.ones_like(one.x))
        torch.testing.assert_close(one.x[:, 0], one.index.double() + 1)
