"""The README's example runs as pasted, and does what it says."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.slow
def test_the_example_runs_as_pasted_and_corrects_the_mean(capsys):
    example, hurry, notebook, modeller = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len([line for line in example.splitlines() if line.strip()]) <= 20
    names: dict = {}
    exec(example, names)
    imputed, respondents = names["imputations"].mean().income.mean(), names["survey"].income.mean()
    assert abs(imputed - 2000) < 0.5 * abs(respondents - 2000)
    exec(hurry, names)
    completed = names["completed"].income
    assert completed.notna().all()
    assert abs(completed.mean() - 2000) < 0.5 * abs(respondents - 2000)
    capsys.readouterr()
    exec(notebook, names)
    printed = capsys.readouterr().out
    assert "age" in printed and "What you assume and cannot test" in printed
    exec(modeller, names)
    own = names["own_imputations"].mean().income.mean()
    assert abs(own - 2000) < abs(respondents - 2000)
