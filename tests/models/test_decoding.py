"""What models take when nothing is said: the decoders."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from pyro_mnar import Table
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
