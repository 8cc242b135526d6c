"""What models take when nothing is said: the decoders, and whether missing values are summed out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from pyro_mnar import Table, mechanisms
from pyro_mnar.models import GINA
from pyro_mnar.models.decoding import linear_decoder, ppca_decoder


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

    def test_of_a_mechanism_of_ones_own_that_names_its_parents(self) -> None:
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
        assert GINA(self.TABLE, mechanism=Steep()).summed_columns == {1}  # numbers are drawn unless it is asked for
        assert not GINA(self.TABLE, numbers="summed", mechanism=Unnamed()).summed_columns

    def test_by_the_parents_and_not_by_the_class(self) -> None:
        for made in mechanisms.DECLARED:
            assert bool(GINA(self.TABLE, mechanism=made).summed_columns) is not made.parents.others
            module = made(2, 1)
            model = GINA(self.TABLE, latent_dim=1, mechanism=module)
            assert bool(model.summed_columns) is not made.parents.others
