"""The blocks of every page of the documentation run as pasted, and print what the page shows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pyro_mnar

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```(?:\n\n```text\n(.*?)^```)?", re.DOTALL | re.MULTILINE)
PAGES = {
    page: blocks for page in sorted(DOCS.rglob("*.md")) if (blocks := BLOCK.findall(page.read_text(encoding="utf-8")))
}
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
TOLERANCE = 0.05  # of numbers that a page shows: another machine's training is not bit for bit the same

# What takes a second and more even with training cut short.
LONG = {
    *("data.md", "how_to.md", "sensitivity.md", "speed.md", "summary.md", "your_data.md"),
    *("latent_dependent.md", "not_miwae.md", "self_masking.md"),
}


def pages(some: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", some, ids=[str(page.relative_to(DOCS)) for page in some])


@pytest.fixture(autouse=True)
def as_a_reader_has_it(float64: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """float32, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


@pytest.mark.slow
@pages([page for page in PAGES if page.name not in LONG])
def test_blocks_run(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With training cut short."""
    train = pyro_mnar.fit

    @wraps(train)
    def short(*arguments: Any, **options: Any) -> pyro_mnar.Fit:
        return train(*arguments, **{**options, "epochs": 1})

    monkeypatch.setattr(pyro_mnar, "fit", short)
    monkeypatch.setattr("pyro_mnar.estimator.imputer.fit", short)
    run(page)


@pytest.mark.slow
@pages([page for page, blocks in PAGES.items() if page.name in LONG or any(shown for _, shown in blocks)])
def test_blocks_print_what_the_page_shows(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for shown, printed in run(page, capsys):
        assert NUMBER.sub("#", shown).split() == NUMBER.sub("#", printed).split()
        numbers = [[float(number) for number in NUMBER.findall(text)] for text in (shown, printed)]
        np.testing.assert_allclose(*numbers, rtol=0.05, atol=TOLERANCE)


ROOT = DOCS.parent
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]*))?\)")
# The site's own pages stand elsewhere once they are staged; its build checks their links.
READ = [page for page in sorted(DOCS.rglob("*.md")) if page.parent.name != "site"]
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *READ]


def anchors(page: Path) -> set[str]:
    """The headings of a page, as links name them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", TEXTS, ids=[str(page.relative_to(ROOT)) for page in TEXTS])
def test_links_lead_somewhere(page: Path) -> None:
    for place, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        target = (page.parent / place).resolve() if place else page
        assert target.exists(), f"{page.name}: {place} is not there"
        assert not anchor or target.suffix != ".md" or anchor in anchors(target), f"{page.name}: {place}#{anchor}"


def test_the_paper_s_parts_are_in_files_that_are_there() -> None:
    named = re.findall(r"`([\w/]+\.py)`", (DOCS / "paper_to_code.md").read_text(encoding="utf-8"))
    assert len(named) > 60 and not [name for name in named if not (ROOT / name).exists()]


def test_every_page_can_be_found() -> None:
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    assert not [page.name for page in READ if page.name != "README.md" and page.name not in index]


def run(page: Path, capsys: pytest.CaptureFixture[str] | None = None) -> list[tuple[str, str]]:
    """Run a page's blocks in one namespace; returns what it shows beside what was printed."""
    names: dict[str, Any] = {}
    printed = []
    for block, shown in PAGES[page]:
        exec(compile(block, str(page), "exec"), names)
        output = capsys.readouterr().out if capsys else ""
        if shown:
            printed.append((shown, output))
    return printed
