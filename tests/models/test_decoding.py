"""What models take when nothing is said: the decoders, and whether missing values are summed out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyro
import torch

from pyro_mnar import MissingnessGraph, Table, mechanisms
from pyro_mnar.infer.sites import is_summed_out, missing_sites
from pyro_mnar.models import GINA
from pyro_mnar.models.decoding import linear_decoder, ppca_decoder, shrinkage_of
from pyro_mnar.models.factor_em import shrinkage_at
from pyro_mnar.nn import ResidualMLP
from pyro_mnar.nn.likelihoods import Decoder, GaussianNoise


class TestPPCADecoder:
    def test_has_one_noise_for_all_columns_of_numbers(self) -> None:
        table = Table.from_frame(pd.DataFrame({"a": [0.0, 1.0, 2.0], "b": [1.0, 2.0, np.nan]}))
        decoder = ppca_decoder(table.schema, 1)
        decoder.likelihood.reset_parameters()
        noise = decoder(torch.zeros(4, 3, 1)).stddev
        assert noise.shape == (4, 3, 2) and noise.unique().numel() == 1

    def test_other_kinds_keep_their_own(self) -> None:
        table = Table.from_frame(pd.DataFrame({"a": [0.0, 1.0, 2.0], "b": ["x", "y", None]}))
        made = [decoder(table.schema, 1) for decoder in (ppca_decoder, linear_decoder)]
        assert [type(decoder.likelihood).__name__ for decoder in made] == ["MixedLikelihood"] * 2


class TestSummedColumns:
    TABLE = Table.from_frame(pd.DataFrame({"a": [0.5, 1.0, np.nan, 3.0], "b": ["x", "y", None, "x"]}), auxiliary=[])

    def summed_sites(self, model: GINA) -> set[str]:
        trace = pyro.poutine.trace(model.float()).get_trace(self.TABLE.batch())
        return {n.removesuffix("_missing") for n, site in missing_sites(trace).items() if is_summed_out(site)}

    def test_numbers_are_summed_out_by_default_where_the_integral_has_a_closed_form(self, own_store: None) -> None:
        for made in (mechanisms.SelfMasking, mechanisms.LatentDependent, mechanisms.Constant):
            assert self.summed_sites(GINA(self.TABLE, mechanism=made)) == {"x_0", "x_1"}
        assert len(self.summed_sites(GINA(self.TABLE, mechanism=mechanisms.SelfMasking, numbers="sampled"))) == 1
        assert not self.summed_sites(GINA(self.TABLE, mechanism=mechanisms.FullyConnected))

    def test_only_columns_that_mask_themselves_tell_something(self) -> None:
        frame = pd.DataFrame({"a": [0.5, 1.0, np.nan], "b": [1.0, np.nan, 0.3], "c": [2.0, 1.0, 0.1]})
        table = Table.from_frame(frame, auxiliary=[])
        assert GINA(table, mechanism=mechanisms.SelfMasking).telling_columns == {0, 1}
        assert GINA(table, mechanism=mechanisms.Constant).telling_columns == set()
        graph = MissingnessGraph.from_parents({"a": ["a"], "b": ["c"]}, table)
        assert GINA(table, graph=graph).telling_columns == {0}

    def test_of_a_mechanism_of_ones_own_that_names_its_parents(self, own_store: None) -> None:
        class Steep(mechanisms.Mechanism):
            parents = mechanisms.Parents(own=True)

            def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
                return -3.0 * x

        class Unnamed(torch.nn.Module):
            def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
                return -3.0 * x

        assert GINA(self.TABLE, numbers="summed", mechanism=Steep()).summed_columns == {0, 1}
        assert GINA(self.TABLE, numbers="summed", mechanism=lambda columns, latent_dim: Steep()).summed_columns == {
            0,
            1,
        }
        # Only levels have a closed form here: numbers are drawn unless quadrature is asked for.
        assert self.summed_sites(GINA(self.TABLE, mechanism=Steep(), numbers="summed")) == {"x_0", "x_1"}
        assert len(self.summed_sites(GINA(self.TABLE, mechanism=Steep()))) == 1
        assert not GINA(self.TABLE, numbers="summed", mechanism=Unnamed()).summed_columns

    def test_by_the_parents_and_not_by_the_class(self) -> None:
        for made in mechanisms.DECLARED:
            assert bool(GINA(self.TABLE, mechanism=made).summed_columns) is not made.parents.others
            module = made(2, 1)
            model = GINA(self.TABLE, latent_dim=1, mechanism=module)
            assert bool(model.summed_columns) is not made.parents.others


def test_training_and_the_start_from_the_data_hold_maps_by_one_prior() -> None:
    """The slope of the one's log density is the precision that the other takes, times the map; 4 latents."""
    decoder = Decoder(ResidualMLP([4, 10, 3]), GaussianNoise([True] * 3))
    linear = decoder.network.linear.weight
    with torch.no_grad():
        linear.copy_(torch.tensor([[0.1, -0.2, 0.3, 0.0], [0.5, 0.5, 0.5, 0.5], [2.0, -3.0, 1.0, 0.5]]))
    (slope,) = torch.autograd.grad(shrinkage_of(decoder), linear)
    maps = linear.detach().numpy()
    np.testing.assert_allclose(slope.numpy(), -shrinkage_at(4.0, maps)[:, None] * maps, rtol=1e-6)
