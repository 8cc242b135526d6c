"""The report holds the numbers of what it reports, one file without a network, and says what it does not hold."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_mnar import (
    Fit,
    Imputations,
    Table,
    check_identifiability,
    diagnose,
    fit,
    impute,
    report,
    sensitivity,
    tipping_point,
)
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.models import Ignorable, PartialVAE, SelfMasking


@pytest.fixture(scope="module")
def table() -> Table:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"u": rng.normal(size=60), "<a|b>": rng.normal(5, 2, 60), "ill": rng.integers(0, 2, 60)})
    frame["ill"] = frame["ill"].astype(float)
    frame.loc[rng.random(60) < 0.3, "<a|b>"] = -9.0
    frame.loc[rng.random(60) < 0.3, "ill"] = np.nan
    return Table.from_frame(frame, auxiliary=["u"], na_values={"<a|b>": [-9.0]}, dtype=torch.float64)


@pytest.fixture(scope="module")
def trained(table: Table) -> Fit:
    model, guide = SelfMasking(table, latent_dim=1, seed=0).double(), ZeroImpute(table, 1, seed=0).double()
    return fit(model, guide, table, epochs=3, progress=False)


@pytest.fixture(scope="module")
def drawn(trained: Fit, table: Table) -> Imputations:
    return impute(trained, table, num_draws=5, num_particles=20)


def mean(frame: pd.DataFrame) -> tuple[pd.Series, float]:
    return pd.Series({"mean": frame["<a|b>"].mean()}), frame["<a|b>"].std() / 60**0.5


class Page(HTMLParser):
    """Headings, words and addresses; fails on tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.titles: list[str] = []
        self.addresses: list[str] = []
        self.words = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data
        if self.open and self.open[-1] == "h2":
            self.titles.append(data)


@pytest.mark.slow
def test_whole_report_is_one_page_that_needs_no_network(trained: Fit, table: Table, drawn: Imputations) -> None:
    pooled = drawn.pool(mean)
    found = sensitivity(mean, {"self-masked": drawn}, deltas=[{}, {"<a|b>": 1.0}])
    tip = tipping_point(mean, drawn, "<a|b>", "sign", between=(0, -20), num_steps=2, tolerance=0.2)
    written = report(
        trained,
        drawn,
        pooled=pooled,
        sensitivity=found,
        tipping=tip,
        identifiability=check_identifiability(trained, table, search=False),
        diagnostics=pd.DataFrame({"k-hat": [0.31]}),
        seeds={"fit": 17},
    )
    page = Page(written.to_html())
    assert page.titles == [
        "Missing data",
        "Assumptions",
        "Computation",
        "Imputed values",
        "Pooled results",
        "Diagnostics",
        "What the data can tell",
        "Sensitivity",
    ]
    assert len(page.addresses) == 5  # graph, training, histogram, scenarios, tipping point
    for address in page.addresses:
        kind, data = address.split(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data).startswith(b"\x89PNG")
    for told in (
        f"{pooled.estimates[0]:.4g}",
        f"{pooled.fmi[0]:.4g}",
        repr(tip),
        "-9.0: ",
        "ill: whether it is seen depends on ill. MNAR",
        "too narrow",
        "seed of fit",
        "<a|b>",
    ):
        assert told in page.words
    assert "<a|b>" not in written.to_html()  # escaped
    assert written._repr_html_() in written.to_html()


def test_counts_are_those_of_the_table(trained: Fit, table: Table, drawn: Imputations) -> None:
    text = report(trained, drawn).to_markdown()
    gaps = ~table.mask.numpy()
    assert f"60 rows, 2 columns; {int((~gaps.any(1)).sum())} rows" in text
    assert re.search(rf"\| \\<a\\\|b\\> \| continuous \| {gaps[:, 0].sum()} \| ", text)
    seen = table.frame["ill"].dropna()
    assert f"| ill | 1.0 | {seen.mean():.4g} | {drawn.draws[:, drawn.cells[1] == 1].mean():.4g} |" in text


def test_what_was_not_given_is_said(trained: Fit, drawn: Imputations) -> None:
    text = report(trained, drawn).to_markdown()
    absent = text.split("## Not reported here")[1]
    for name in ("imputations.pool", "check_identifiability", "sensitivity(", "tipping_point(", "diagnostics"):
        assert name in absent
    assert "Seeds were not noted" in text


@pytest.mark.parametrize(
    ("model_class", "told"),
    [(Ignorable, "missing at random: only what"), (PartialVAE, "No missingness graph can be")],
)
def test_assumptions_of_models_that_ignore_the_mechanism(table: Table, model_class: Any, told: str) -> None:
    model = model_class(table, latent_dim=1, seed=0)
    ignorable = fit(model, ZeroImpute(table, 1, seed=0), table, epochs=1, progress=False)
    assert told in report(ignorable, impute(ignorable, table, num_draws=2, num_particles=5)).to_markdown()


def test_saved_files_hold_the_report(trained: Fit, drawn: Imputations, tmp_path: Path) -> None:
    written = report(trained, drawn, pooled={"A": drawn.pool(mean), "B": drawn.pool(mean)})
    for _ in range(2):  # written twice, the second leaves nothing of the first
        written.save(tmp_path / "supplement.md")
        written.save(tmp_path / "supplement.html")
    assert (tmp_path / "supplement.html").read_text(encoding="utf-8") == written.to_html()
    links = re.findall(r"\]\((supplement_files/\d\d\.png)\)", (tmp_path / "supplement.md").read_text(encoding="utf-8"))
    assert sorted(links) == sorted(f"supplement_files/{p.name}" for p in (tmp_path / "supplement_files").iterdir())
    assert len(links) == 4  # two columns, the training, and A beside B
    with pytest.raises(ValueError, match=re.escape("path: expected an ending .html or .md, got 'report.pdf'")):
        written.save("report.pdf")


def test_refuses_what_does_not_go_together(trained: Fit, drawn: Imputations) -> None:
    with pytest.raises(TypeError):
        report(trained, pd.DataFrame())  # type: ignore[arg-type]
    other = Table.from_frame(pd.DataFrame({"z": [1.0, 2.0, np.nan]}), auxiliary=[])
    model = Ignorable(other, latent_dim=1, seed=0)
    apart = fit(model, ZeroImpute(other, 1, seed=0), other, epochs=1, progress=False)
    with pytest.raises(ValueError, match=re.escape("expected the fit's columns ['z'], got ['<a|b>', 'ill']")):
        report(apart, drawn)


@pytest.mark.slow
def test_a_diagnosis_is_shown_with_its_pictures(trained: Fit, drawn: Imputations) -> None:
    found = diagnose(trained, drawn, num_particles=500, replicates=10, ignorable=trained)
    page = report(trained, drawn, diagnostics=found)
    (section,) = (section for section in page.sections if section.title == "Diagnostics")
    table, caution, *pictures = section.blocks
    assert isinstance(table, pd.DataFrame) and list(table.index) == [finding.subject for finding in found.findings]
    assert "Nothing here proves a fit right" in str(caution) and len(pictures) == 2
