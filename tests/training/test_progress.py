"""In a log a training is a line a tenth."""

from __future__ import annotations

import sys

from pyro_mnar.training import progress


def test_a_log_has_a_line_at_the_start_and_one_a_tenth(capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    bar = progress.progress_of(25, "restart 2", shown=True)
    for epoch in range(25):
        bar.set_postfix_str(f"bound {-epoch}")
        bar.update()
    bar.close()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "restart 2: 25 epochs" and len(lines) == 11
    done = [int(line.split()[3]) for line in lines[1:]]
    assert done == [3, 5, 8, 10, 13, 15, 18, 20, 23, 25]
    assert lines[-1].startswith("restart 2: epoch 25 of 25, bound -24, ") and lines[-1].endswith("0 s left")


def test_an_early_end_is_said_and_silence_kept(capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    bar = progress.progress_of(4, "", shown=True)
    bar.set_postfix_str("interrupted")
    bar.close()
    quiet = progress.progress_of(4, "", shown=False)
    quiet.update()
    quiet.close()
    assert capsys.readouterr().err.splitlines() == [
        "training: 4 epochs",
        "training: ended after epoch 0 of 4, interrupted",
    ]
