"""The demo's protocol and output; its figures are checked in test_real_tables."""

import pandas as pd
import pytest

from pyro_mnar.cli.demo import run


@pytest.mark.slow
def test_the_demo_prints_a_line_a_method_and_writes_tables_and_a_figure(tmp_path, capsys):
    scores = run(tmp_path, epochs=1, particles=2, per_draw=5, progress=False)
    printed = capsys.readouterr().out
    assert [score.method for score in scores] == [
        "column mean",
        "IterativeImputer (MICE)",
        "PartialVAE",
        "NotMIWAE",
        "GINA",
    ]
    assert all(f"{score.rmse:.3f}" in printed for score in scores)
    # The first two have no randomness to speak of, so the protocol can be told by its published figures.
    assert abs(scores[0].rmse - 1.82) < 0.005
    assert abs(scores[1].rmse - 0.946) < 0.01
    assert (tmp_path / "demo.png").stat().st_size > 10_000
    assert not pd.read_csv(tmp_path / "draw_20.csv").isna().any().any()
