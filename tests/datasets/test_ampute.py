"""Making values go missing: the rates that were asked for, by the causes that were declared and by no others."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit

from pyro_mnar.datasets import Amputed, Complete, LinearStructure, ampute, logistic, quantile, threshold
from pyro_mnar.graphs.graph import MissingnessGraph

COLUMNS = ["a", "b", "c"]
ROWS = 400


def complete_rows(seed: int = 0, rows: int = ROWS) -> Complete:
    return LinearStructure(COLUMNS, latent_dim=2, rows=rows)(np.random.default_rng(seed))


FRAME = complete_rows().frame
GRAPHS: dict[str, Callable[[], MissingnessGraph]] = {
    "mcar": lambda: MissingnessGraph.mcar(COLUMNS),
    "mar": lambda: MissingnessGraph.mar(COLUMNS, on=["a"], incomplete=["b", "c"]),
    "self": lambda: MissingnessGraph.self_masking(COLUMNS, sign=-1),
    "full": lambda: MissingnessGraph.fully_connected(COLUMNS),
    "latent": lambda: MissingnessGraph.latent(COLUMNS),
    "latent_dependent": lambda: MissingnessGraph.latent_dependent(COLUMNS),
    "general": lambda: MissingnessGraph.general(COLUMNS, form="nonlinear"),
    "no_self": lambda: MissingnessGraph.no_self_censoring(COLUMNS),
    "among_r": lambda: MissingnessGraph([("a", "R[b]"), ("R[b]", "R[c]"), ("c", "R[c]")], COLUMNS),
}


@pytest.mark.parametrize("mechanism", [logistic, quantile])
@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
def test_rate_is_calibrated_in_every_column(graph: Callable[[], MissingnessGraph], mechanism: Callable) -> None:
    rates = {"a": 0.1, "b": 0.35, "c": 0.8}
    made = ampute(complete_rows(), graph(), rate=rates, mechanism=mechanism, seed=4)
    for name in made.probabilities:
        assert made.probabilities[name].mean() == pytest.approx(1 - rates[name], abs=1e-9)


@given(rate=st.floats(0.001, 0.999), strength=st.floats(0, 50), seed=st.integers(0, 1000))
def test_logistic_meets_any_rate(rate: float, strength: float, seed: int) -> None:
    score = np.random.default_rng(seed).normal(size=50)
    assert logistic(score, rate, strength).mean() == pytest.approx(rate, abs=1e-9)


@given(rate=st.floats(0.001, 0.999), scores=st.lists(st.integers(0, 3), min_size=1, max_size=30))
def test_quantile_meets_any_rate_and_treats_ties_alike(rate: float, scores: list[int]) -> None:
    score = np.array(scores, dtype=float)
    missing = quantile(score, rate, 1.0)
    assert missing.mean() == pytest.approx(rate, abs=1e-9)
    assert all(len(set(missing[score == value])) == 1 for value in set(scores))
    assert (np.diff(missing[np.argsort(score, kind="stable")]) >= 0).all()


def test_holes_follow_the_probabilities() -> None:
    made = ampute(complete_rows(rows=20_000), GRAPHS["general"](), rate=0.3, seed=1)
    for name in COLUMNS:
        p, seen = made.probabilities[name], made.frame[name].notna()
        score = (seen - p).sum() / np.sqrt((p * (1 - p)).sum())
        within = ((seen - p) * (p > p.median())).sum() / np.sqrt((p * (1 - p))[p > p.median()].sum())
        assert abs(score) < 4 and abs(within) < 4  # false alarms: 4 in 10,000 for the six of them


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
def test_what_is_no_parent_leaves_a_column_alone(graph: Callable[[], MissingnessGraph]) -> None:
    graph_, before = graph(), complete_rows()
    old = ampute(before, graph_, seed=2)
    noise = np.random.default_rng(9).normal(size=ROWS)
    sources: dict[Hashable, Complete] = {
        name: Complete(before.frame.assign(**{name: before.frame[name] + noise}), before.latents) for name in COLUMNS
    }
    assert before.latents is not None
    sources["Z"] = Complete(before.frame, before.latents.assign(Z1=before.latents["Z1"] + noise))
    for changed, source in sources.items():
        new = ampute(source, graph_, seed=2)
        for column in graph_.nodes.incomplete:
            ancestors = _causes_of(graph_, column)
            same = bool((new.probabilities[column] == old.probabilities[column]).all())
            assert same == (changed not in ancestors), (changed, column)


def _causes_of(graph: MissingnessGraph, column: Hashable) -> set[Hashable]:
    """Parents of R[column], and parents of those of them that are R nodes themselves."""
    found: set[Hashable] = set()
    for parent in graph.parents(column):
        others = [other for other in graph.nodes.incomplete if graph.nodes.r(other) == parent]
        found |= _causes_of(graph, others[0]) if others else {parent}
    return found


def test_declared_sign_and_form_are_kept() -> None:
    graph = MissingnessGraph(
        [
            ("a", "R[a]", {"sign": -1}),
            ("b", "R[b]", {"sign": 1, "form": "nonlinear"}),
            ("c", "R[c]", {"form": "nonlinear"}),
        ]
    )
    rows = complete_rows()
    observed = ampute(rows, graph).probabilities
    standard = (rows.frame - rows.frame.mean()) / rows.frame.std()
    assert observed["a"].corr(rows.frame["a"], method="spearman") == pytest.approx(-1)
    assert observed["b"].corr(rows.frame["b"], method="spearman") == pytest.approx(1)
    assert observed["c"].corr(standard["c"].abs(), method="spearman") == pytest.approx(-1)


def test_signs_hold_beside_other_parents() -> None:
    graph = MissingnessGraph.general(COLUMNS).knowing("a", "R[a]", sign=-1).knowing("b", "R[a]", sign=1)
    rows, more = complete_rows(), complete_rows()
    for name, direction in (("a", -1), ("b", 1)):
        shifted = rows.frame[name].to_numpy().copy()
        shifted[0] += 0.5
        more = Complete(rows.frame.assign(**{name: shifted}), rows.latents)
        for seed in range(5):
            before, after = (logit(ampute(d, graph, seed=seed).probabilities["a"]) for d in (rows, more))
            # Relative to the mean, since the rate stays where it was.
            assert direction * ((after[0] - after.mean()) - (before[0] - before.mean())) > 0


def test_strength_is_the_log_odds_per_standard_deviation() -> None:
    rows = complete_rows()
    observed = ampute(rows, GRAPHS["self"](), strength=3.0).probabilities["b"]
    slope = np.polyfit(rows.frame["b"] / rows.frame["b"].std(ddof=0), logit(observed), 1)[0]
    assert slope == pytest.approx(-3.0)


def test_threshold_with_given_weights_is_the_papers() -> None:
    rows = complete_rows()
    standard = Complete((rows.frame - rows.frame.mean()) / rows.frame.std(ddof=0), rows.latents)
    weights = {"b": {"b": 0.5, "Z1": -1.0, "Z2": 2.0}}
    made = ampute(standard, GRAPHS["latent_dependent"](), mechanism=threshold, weights=weights)
    assert standard.latents is not None
    score = 0.5 * standard.frame["b"] - standard.latents["Z1"] + 2 * standard.latents["Z2"]
    np.testing.assert_array_equal(made.frame["b"].isna(), score > 0)


def test_an_r_node_follows_the_holes_of_its_parent() -> None:
    graph = MissingnessGraph([("R[b]", "R[c]")], COLUMNS)
    made = ampute(complete_rows(rows=2000), graph, rate=0.3)
    groups = made.probabilities["c"].groupby(made.frame["b"].isna())
    assert groups.nunique().tolist() == [1, 1]
    assert groups.mean()[False] < groups.mean()[True]  # weight 1 on R[b] = 1, which counts towards going missing


def test_same_seed_same_holes_and_truth_attached() -> None:
    rows = complete_rows()
    first, second, other = (ampute(rows, GRAPHS["general"](), seed=seed) for seed in (5, 5, 6))
    pd.testing.assert_frame_equal(first.frame, second.frame)
    assert not first.frame.equals(other.frame)
    pd.testing.assert_frame_equal(first.complete, rows.frame)
    pd.testing.assert_frame_equal(first.frame.fillna(rows.frame), rows.frame)
    assert first.latents is rows.latents


def test_generators_text_causes_and_foreign_columns() -> None:
    structure = LinearStructure(COLUMNS, rows=ROWS)
    drawn = ampute(structure, GRAPHS["latent"](), seed=3)
    assert isinstance(drawn, Amputed) and drawn.latents is not None
    region = np.random.default_rng(0).choice(["north", "south", "west"], ROWS)
    frame = complete_rows().frame.assign(region=region, note="kept")
    frame.index = pd.RangeIndex(10, 10 + ROWS)
    graph = MissingnessGraph.mar(COLUMNS, on=["region"], auxiliaries=["region"], incomplete=["c"])
    made = ampute(frame, graph)
    assert made.probabilities["c"].groupby(frame["region"]).nunique().tolist() == [1, 1, 1]
    assert made.probabilities["c"].nunique() == 3
    assert made.frame["note"].eq("kept").all() and made.frame.index.equals(frame.index)


def test_without_causes_it_is_chance_alone() -> None:
    made = ampute(complete_rows(), GRAPHS["mcar"](), rate=0.2, mechanism=threshold)
    assert (made.probabilities == 0.8).all(axis=None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate": 1.0}, "rate of column 'a': expected a share above 0 and below 1, got 1.0"),
        ({"rate": {"a": 0.5}}, "rate of column 'b': expected a share"),
        ({"weights": {"a": {"b": 1.0}}}, r"weights of column 'a': expected parents among \['a'\], got 'b'"),
        ({"data": FRAME[["a", "b"]]}, "column 'c': in the graph, but not among the frame's"),
        ({"data": FRAME.drop(index=7).reindex(FRAME.index)}, "expected complete rows, got a gap in row 7"),
        ({"data": FRAME, "graph": MissingnessGraph.latent(COLUMNS)}, "expected a Complete with latents"),
    ],
)
def test_errors(change: dict, message: str) -> None:
    arguments = {"data": complete_rows(), "graph": MissingnessGraph.self_masking(COLUMNS), **change}
    with pytest.raises(ValueError, match=message):
        ampute(**arguments)


class TestLinearStructure:
    def test_edges_among_columns_are_in_the_covariance(self) -> None:
        """Figure 1 (i): given Z, a column correlates with its child and not with the others."""
        graph = MissingnessGraph([("a", "b"), ("c", "R[c]")], COLUMNS)
        made = LinearStructure.of_graph(graph, rows=20_000, latent_dim=2, seed=1)(np.random.default_rng(0))
        assert made.latents is not None
        z = np.column_stack([np.ones(len(made.frame)), made.latents])
        residual = made.frame.to_numpy() - z @ np.linalg.lstsq(z, made.frame.to_numpy(), rcond=None)[0]
        correlation = np.corrcoef(residual.T)
        assert abs(correlation[0, 1]) > 0.4
        assert abs(correlation[[0, 1], 2]).max() < 4 / np.sqrt(20_000)

    def test_two_calls_are_two_samples_of_one_law(self) -> None:
        structure = LinearStructure(COLUMNS, [("a", "c"), ("c", "b")], rows=20_000)
        first, second = (structure(np.random.default_rng(seed)).frame for seed in (0, 1))
        assert not first.equals(second)
        np.testing.assert_allclose(first.cov(), second.cov(), atol=0.1)

    def test_errors(self) -> None:
        with pytest.raises(ValueError, match=r"edge with column 'd': expected one of \['a', 'b', 'c'\]"):
            LinearStructure(COLUMNS, [("a", "d")])
        with pytest.raises(ValueError, match="expected no cycle"):
            LinearStructure(COLUMNS, [("a", "b"), ("b", "a")])
        with pytest.raises(ValueError, match=r"expected a graph without auxiliaries, got \['age'\]"):
            LinearStructure.of_graph(MissingnessGraph.mcar(COLUMNS, auxiliaries=["age"]))


def test_expit_of_the_logistic_curve_is_monotone_in_strength() -> None:
    score = np.linspace(-2, 2, 101)
    weak, strong = logistic(score, 0.5, 1.0), logistic(score, 0.5, 4.0)
    np.testing.assert_allclose(weak, expit(score / score.std()), atol=1e-9)
    assert (np.abs(strong - 0.5) >= np.abs(weak - 0.5) - 1e-9).all()
