"""Bad and extreme input of every kind: one line of an error that names it and where it is, or a right answer.

The cases stand in ``bad_inputs``; type checkers of the tests are off, since users have none.
"""

from __future__ import annotations

import itertools
import re
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import pyro_mnar
from bad_inputs.case import Case
from bad_inputs.page import MEMORY, PAGE, SECTIONS, line_of, message_of
from pyro_mnar import memory

CASES = list(itertools.chain.from_iterable(SECTIONS.values()))
HOMES = [str(Path(package.__file__).parent) for package in (pyro_mnar, pyro_mnar.models, pyro_mnar.guides)]
SHOWN = 60  # characters of a message that have to be those of the page; what json or argparse say may differ

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def as_users_have_it(float64: None, no_type_checker: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """float32, no type checker, 8 GiB of memory."""
    monkeypatch.setattr(memory, "available_memory", lambda: MEMORY)
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


@pytest.mark.parametrize("case", CASES, ids=[case.given[:80] for case in CASES])
def test_input_is_refused_by_name_or_answered_rightly(case: Case) -> None:
    if callable(case.answer):
        assert case.answer(case.call())
        return
    with pytest.raises((ValueError, TypeError, OSError)) as caught:
        case.call()
    message = str(caught.value)
    assert "\n" not in message
    assert [part for part in case.answer if part not in message] == [], message
    frames = traceback.extract_tb(caught.value.__traceback__)
    is_ours = any(frames[-1].filename.startswith(home) for home in HOMES) or "bad_inputs" in frames[-1].filename
    assert is_ours or isinstance(caught.value, OSError), f"raised in {frames[-1].filename}"


def test_the_page_shows_every_case() -> None:
    shown = [line[2:-2] for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    given = [line.split(" | ")[0] for line in shown if line != "given | answer"]
    assert given == [case.given.replace("|", "\\|") for case in CASES]
    assert len(CASES) == len({case.given for case in CASES}) >= 500


@pytest.mark.parametrize("title", SECTIONS)
def test_the_page_shows_what_is_answered(title: str) -> None:
    """Of every tenth case, numbers aside, which may be the machine's."""
    shown = PAGE.read_text(encoding="utf-8")
    for case in SECTIONS[title][::10]:
        given, answer = line_of(case).split(" | ", 1)
        line = next(line for line in shown.splitlines() if line.startswith(f"| {given} | "))
        own, page = (re.sub(r"\d+", "#", text)[:SHOWN] for text in (answer, line[:-2].split(" | ", 1)[1]))
        assert own == page


def test_folders_of_a_machine_are_not_shown() -> None:
    assert message_of(ValueError("/tmp/a1/b/t.csv, line 3: no")) == "t.csv, line 3: no"
