"""The demo's protocol and output; its figures are checked in test_real_tables."""

import numpy as np
import pandas as pd

from pyro_mnar.demo import mask_above_mean, rmse, run, standardised


def test_values_above_the_mean_go_missing_in_the_given_columns_only():
    truth = standardised(pd.DataFrame({"a": [1.0, 2.0, 6.0], "b": [3.0, 1.0, 2.0]}))
    masked = mask_above_mean(truth, pd.Index(["a"]))
    assert masked["a"].isna().tolist() == [False, False, True]
    pd.testing.assert_series_equal(masked["b"], truth["b"])


def test_rmse_is_over_the_missing_entries():
    truth = pd.DataFrame({"a": [1.0, 2.0, 3.0]})
    completed = pd.DataFrame({"a": [9.0, 3.0, 3.0]})
    assert rmse(completed, truth, np.array([[False], [True], [True]])) == np.sqrt(0.5)


def test_the_demo_prints_a_line_a_method_and_writes_tables_and_a_figure(tmp_path, capsys):
    scores = run(tmp_path, epochs=1, particles=2, progress=False)
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
