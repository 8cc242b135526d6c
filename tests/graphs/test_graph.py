"""Graphs as declared: presets, errors, kinds by d-separation, Figure 1, files, pictures."""

from __future__ import annotations

import json
import pickle
import re

import matplotlib as mpl
import networkx as nx
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks import table_with_gaps
from graph_checks import graph_data
from pyro_mnar import MissingnessGraph, Table, check_identifiability, fit, impute
from pyro_mnar.graphs.graph import PRESETS, Edge
from pyro_mnar.graphs.likely import likely_causes
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.models import GINA

NAMES = ["income", "age", "gender"]
HOLES = {"incomplete": ["income", "age"], "auxiliaries": ["region"]}


def preset(name: str, **options: object) -> MissingnessGraph:
    return MissingnessGraph.preset(name, NAMES, **HOLES, **options)


@pytest.mark.parametrize(
    ("name", "kind", "letter", "parents"),
    [
        ("mcar", "MCAR", "a", ()),
        ("mar", "MAR", "b", ("gender", "region")),
        ("self_masking", "MNAR", "c", ("income",)),
        ("fully_connected", "MNAR", "d", ("income", "age", "gender")),
        ("latent", "MNAR", None, ("Z",)),
        ("latent_dependent", "MNAR", None, ("income", "Z")),
        ("general", "MNAR", "h", ("income", "age", "gender", "Z")),
        ("no_self_censoring", "MNAR", None, ("age", "gender")),
        ("no_self_censoring_given_z", "MNAR", None, ("age", "gender", "Z")),
    ],
)
def test_presets(name: str, kind: str, letter: str | None, parents: tuple[str, ...]) -> None:
    graph = preset(name)
    assert graph.parents("income") == parents
    assert graph.kind().overall == kind
    assert graph.figure1().letter == letter
    assert {column.kind for column in graph.kind().columns.values()} == {kind}


def test_every_preset_is_tested_and_found_by_either_spelling() -> None:
    assert {name for name in PRESETS if preset(name.replace("_", "-")) == preset(name)} == set(PRESETS)
    with pytest.raises(ValueError, match="expected one of mcar, mar"):
        preset("selfmasking")


def test_a_table_a_schema_and_names_say_the_same() -> None:
    table = table_with_gaps()
    by_name = MissingnessGraph.self_masking(["x0", "x1", "x2"], auxiliaries=["u0"])
    assert MissingnessGraph.self_masking(table) == MissingnessGraph.self_masking(table.schema) == by_name
    assert hash(MissingnessGraph.self_masking(table)) == hash(by_name)
    assert MissingnessGraph.self_masking(table) != MissingnessGraph.mcar(table)


def test_complete_columns_that_serve_as_u_are_columns() -> None:
    table = Table.from_numpy(table_with_gaps(num_auxiliaries=1).frame.to_numpy(), columns=["a", "b", "c", "d"])
    graph = MissingnessGraph.mar(table)
    assert graph.nodes.incomplete == ("a", "b", "c")
    assert graph.parents("a") == ("d",)
    assert graph.kind().overall == "MAR"


# ---------------------------------------------------------------------------------------------------- edges by hand


def test_edges_with_knowledge() -> None:
    graph = MissingnessGraph(
        [("income", "R[income]", {"sign": "high", "form": "linear"}), ("Z", "R[age]"), Edge("age", "R[age]", sign=1)]
    )
    assert graph.nodes.columns == ("income", "age")
    assert graph.edges[0] == Edge("income", "R[income]", -1, "linear")
    assert "income (high → missing, linear)" in repr(graph)
    assert "age (low → missing)" in repr(graph)
    assert MissingnessGraph([Edge("a", "R[a]", sign="low")]).edges[0].sign == 1


def test_each_column_its_own_parents() -> None:
    graph = MissingnessGraph.from_parents({"income": ["income", "Z"], "age": []}, NAMES, incomplete=["income", "age"])
    assert graph.parents("income") == ("income", "Z")
    assert graph.parents("age") == ()
    assert MissingnessGraph.from_parents({"income": ["income"], "age": []}).nodes.incomplete == ("income", "age")


def test_knowing_more_leaves_the_graph_as_it_was() -> None:
    graph = preset("latent_dependent")
    known = graph.knowing("income", "R[income]", sign="high").knowing(form="nonlinear")
    assert known.edges[0] == Edge("income", "R[income]", -1, "nonlinear")
    assert {edge.form for edge in known.edges} == {"nonlinear"}
    assert {edge.sign for edge in graph.edges} == {0}
    assert preset("self_masking", form="linear") == preset("self_masking").knowing(form="linear")
    assert MissingnessGraph.self_masking(NAMES, sign="low") == MissingnessGraph.self_masking(NAMES).knowing(sign=1)
    with pytest.raises(ValueError, match=r"expected an edge age → R\[income\]"):
        graph.knowing("age", "R[income]", sign="high")


def test_edges_of_every_graph_need_not_be_declared() -> None:
    assert MissingnessGraph([("Z", "income"), ("region", "Z")], NAMES, **HOLES) == preset("mcar")


def test_numbers_as_labels_and_a_column_called_z() -> None:
    assert MissingnessGraph([(0, "R[0]"), (1, "R[0]")]).nodes.columns == (0, 1)
    assert MissingnessGraph.general(["X", "Z"]).parents("X") == ("X", "Z", "latent")
    assert MissingnessGraph.latent(["Z", "latent"]).parents("Z") == ("latent 1",)
    assert MissingnessGraph.general(["X", "Z"], latent="W").parents("X") == ("X", "Z", "W")
    with pytest.raises(ValueError, match=r"column 'Z': the latent's node has this name.*'latent' in a graph's file"):
        MissingnessGraph([("Z", "R[X]")], ["X", "Z"])  # which of the two?
    with pytest.raises(ValueError, match="column None: expected a name"):
        MissingnessGraph([], [None, "X"])
    with pytest.raises(ValueError, match="column <NA>: expected a name"):
        MissingnessGraph([], [pd.NA, "X"])
    with pytest.raises(TypeError, match="column nan: expected text or a number"):
        MissingnessGraph([], [float("nan"), "X"]).to_json()


def test_a_column_called_z_is_fitted_like_any_other() -> None:
    frame = pd.DataFrame({"x": [0.5, 1.5, 2.0, 0.1] * 5, "Z": [1.5, None, 2.5, None] * 5})
    table, called_y = Table.from_frame(frame), Table.from_frame(frame.rename(columns={"Z": "y"}))
    assert likely_causes(table).graph.nodes.latent == "latent"
    assert MissingnessGraph([]).on(table).nodes.latent == "latent"
    assert MissingnessGraph.from_json(MissingnessGraph.latent(table).to_json(), table).parents("Z") == ("latent",)
    draws = []
    for each in (table, called_y):
        model = GINA(each, seed=0)
        result = fit(model, ZeroImpute(each, model.latent_dim, seed=0), each, epochs=1, seed=0, progress=False)
        check_identifiability(result, each, search=False)
        draws.append(impute(result, each, num_draws=1).draws)
    np.testing.assert_array_equal(*draws)


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([("incme", "R[income]")], "node 'incme': expected a column among .*'income'"),
        ([("income", "R[incme]")], r"node 'R\[incme\]': expected"),
        ([("R[age]", "income")], "missingness causes neither X nor Z nor U"),
        ([("R[age]", "Z")], "missingness causes neither X nor Z nor U"),
        ([("R[age]", "region")], "missingness causes neither X nor Z nor U"),
        ([("R[age]", "R[income]"), ("R[income]", "R[age]")], "expected no cycle, got R"),
        ([("R[age]", "R[age]")], "expected no cycle"),
        ([("income", "age"), ("age", "income")], "expected no cycle, got (income|age) →"),
        ([("income", "Z")], "makes a cycle"),
        ([("income", "region")], "U is conditioned on"),
        ([("income", "R[gender]")], r"R\[gender\]: column 'gender' is complete"),
        ([("income", "R[region]")], r"R\[region\]: 'region' is an auxiliary"),
        ([("income", "R[income]", {"sign": "up"})], "expected sign 'high'"),
        ([("income", "R[income]", {"sign": True})], "expected sign 'high'"),
        ([("income", "R[income]", {"form": "cubic"})], "expected form 'linear'"),
        ([("income", "R[income]", {"slopes": 1})], "got \\['slopes'\\]"),
        ([("income", "R[income]", {"slope": "steep"})], "expected a number as slope, got 'steep'"),
        ([("income", "R[income]", {"slope": float("nan")})], "expected a number as slope, got nan"),
        ([("income", "R[income]", {"slope": 1, "form": "nonlinear"})], "no slope of a nonlinear edge"),
        ([("income", "R[income]", {"slope": -1, "sign": "low"})], "a slope from 0 beside sign 'low'"),
        ([("Z", "R[income]", {"slope": 0.0})], "no direction of its own"),
        ([("income", "age", {"slope": 1})], "of edges into an R only"),
        ([("Z", "R[income]", {"sign": "high"})], "no direction of its own"),
        ([("income", "age", {"form": "linear"})], "of edges into an R only"),
        ([("Z", "income", {"sign": "high"})], "of edges into an R only"),
        ([("income", "R[age]"), ("income", "R[age]", {"sign": 1})], "declared twice"),
    ],
)
def test_edges_that_are_refused(edges: list[tuple], message: str, no_type_checker: None) -> None:
    with pytest.raises(ValueError, match=message):
        MissingnessGraph(edges, NAMES, **HOLES)


def test_arguments_that_are_refused() -> None:
    with pytest.raises(TypeError, match="edge: expected"):
        MissingnessGraph(["income"])
    with pytest.raises(TypeError, match="table: expected"):
        MissingnessGraph((), "income")
    with pytest.raises(ValueError, match="incomplete: expected some of the columns"):
        MissingnessGraph((), NAMES, incomplete=["agee"])
    with pytest.raises(ValueError, match="the table says which they are"):
        MissingnessGraph((), table_with_gaps(), incomplete=["x0"])
    with pytest.raises(ValueError, match="expected each name once, got it 2 times"):
        MissingnessGraph((), ["a", "a"])
    with pytest.raises(ValueError, match="got no columns"):
        MissingnessGraph.mcar([])
    with pytest.raises(ValueError, match="more than two levels"):
        MissingnessGraph([("u", "R[a]", {"sign": 1})], ["a"], auxiliaries={"u": 2})
    with pytest.raises(ValueError, match="column 'gender': expected one that can go missing"):
        preset("mcar").parents("gender")


def test_mar_depends_on_nothing_that_goes_missing() -> None:
    assert preset("mar", on=["gender"]).parents("age") == ("gender",)
    with pytest.raises(ValueError, match="column 'age' can itself go missing"):
        preset("mar", on=["age"])
    with pytest.raises(ValueError, match="expected complete columns or auxiliaries"):
        preset("mar", on=["postcode"])
    with pytest.raises(ValueError, match="to depend on, got none"):
        MissingnessGraph.mar(["a", "b"])


def test_on_a_table() -> None:
    table = table_with_gaps()
    loose = MissingnessGraph([("x0", "R[x0]"), ("u0", "R[x1]")])
    assert loose.on(table).parents("x1") == ("u0",)
    assert loose.on(table).parents("x2") == ()
    assert loose.on(table).on(table.schema) == loose.on(table)
    with pytest.raises(ValueError, match="node 'y': expected a column"):
        MissingnessGraph([("y", "R[x0]")]).on(table)
    with pytest.raises(ValueError, match="column 'x2': goes missing"):
        MissingnessGraph.self_masking(["x0", "x1"]).on(table)
    complete = Table.from_frame(table.frame.fillna({"x0": 0.0}), auxiliary=["u0"])
    with pytest.raises(ValueError, match="column 'x0' is complete"):
        loose.on(complete)


# --------------------------------------------------------------------------------------------------- what it says


@pytest.mark.parametrize(
    ("edges", "kinds"),
    [
        ([("gender", "R[income]")], {"income": "MAR", "age": "MCAR"}),
        ([("region", "R[income]"), ("income", "gender")], {"income": "MAR", "age": "MCAR"}),
        ([("R[age]", "R[income]")], {"income": "MCAR", "age": "MCAR"}),
        ([("R[age]", "R[income]"), ("gender", "R[age]")], {"income": "MAR", "age": "MAR"}),
        ([("R[age]", "R[income]"), ("age", "R[age]")], {"income": "MNAR", "age": "MNAR"}),
        ([("R[age]", "R[income]"), ("income", "R[income]")], {"income": "MNAR", "age": "MCAR"}),
        ([("income", "gender"), ("gender", "R[age]"), ("Z", "R[income]")], {"income": "MNAR", "age": "MAR"}),
    ],
)
def test_kinds_by_separation(edges: list[tuple], kinds: dict[str, str]) -> None:
    kind = MissingnessGraph(edges, NAMES, **HOLES).kind()
    assert {name: column.kind for name, column in kind.columns.items()} == kinds
    assert kind.overall == max(kinds.values(), key=["MCAR", "MAR", "MNAR"].index)


@given(graph_data(), st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=3))
def test_kinds_are_those_of_separation_in_the_whole_graph(data: dict, among: list[tuple[int, int]]) -> None:
    columns = data["columns"]
    data["edges"] += [[columns[a], columns[b]] for a, b in among if a < b < len(columns)]
    graph = MissingnessGraph.from_dict(data)
    roles, given = dict(graph.dag.nodes(data="role")), set(graph.nodes.given)
    variables = {name for name in graph.dag if roles[name] != "R"}
    for column, (kind, _) in graph.kind().columns.items():
        r = {f"R[{column}]"}
        is_mcar = nx.is_d_separator(graph.dag, r, variables, set())
        is_mar = nx.is_d_separator(graph.dag, r, variables - given, given)
        assert kind == ("MCAR" if is_mcar else "MAR" if is_mar else "MNAR")


def test_reasons_name_the_cause() -> None:
    graph = MissingnessGraph([("R[age]", "R[income]"), ("age", "R[age]"), ("Z", "R[age]")], NAMES, **HOLES)
    kind = graph.kind()
    assert kind.columns["income"].reason == "R[income] depends on R[age], and through it on what can go missing"
    assert kind.columns["age"].reason == "R[age] depends on its own value age; on the latent, which is never observed"
    assert "gender and region" in preset("mar").kind().reason or "region and gender" in preset("mar").kind().reason
    assert str(kind).startswith("MNAR: R[income] depends on R[age]")
    assert MissingnessGraph((), ["a"], incomplete=[]).kind().reason == "no column can go missing"


@pytest.mark.parametrize(
    ("edges", "letter", "says"),
    [
        ([("income", "age"), ("income", "R[income]")], "i", "columns cause columns"),
        ([("R[income]", "R[age]")], "j", "missingness causes missingness"),
        ([("R[income]", "R[age]"), ("income", "age")], None, "beyond Figure 1"),
        ([("income", "R[income]")], None, r"income → R\[income\]; nothing → R\[age\] \(a subgraph of Figure 1 \(h\)"),
        ([("income", "R[income]"), ("region", "R[age]")], None, "beyond Figure 1, for U causes R"),
    ],
)
def test_figure_one(edges: list[tuple], letter: str | None, says: str) -> None:
    figure = MissingnessGraph(edges, NAMES, **HOLES).figure1()
    assert figure.letter == letter
    assert re.search(says, figure.description)
    assert str(figure).startswith(f"Figure 1 ({letter})" if letter else figure.description)


def test_repr_reads_well() -> None:
    assert repr(preset("self_masking", sign="high")) == (
        "MissingnessGraph: MNAR, Figure 1 (c)\n"
        "  R[income] ← income (high → missing)\n"
        "  R[age]    ← age (high → missing)\n"
        "  complete: gender\n"
        "  auxiliary: region"
    )
    assert "R[a] (observed → missing)" in repr(MissingnessGraph([("R[a]", "R[b]", {"sign": -1})]))
    assert "and 30 more" in repr(MissingnessGraph.self_masking([f"x{d}" for d in range(50)]))


def test_a_wide_graph_is_quick() -> None:
    graph = MissingnessGraph.latent_dependent([f"x{d}" for d in range(1000)])
    assert graph.kind().overall == "MNAR"


# ------------------------------------------------------------------------------------------------ files and pictures


@given(graph_data())
def test_json_round_trip(data: dict) -> None:
    graph = MissingnessGraph.from_dict(data)
    again = MissingnessGraph.from_json(graph.to_json())
    assert again == graph
    assert again.dag.edges(data=True) is not None
    assert repr(again) == repr(graph)


def test_json_written_by_hand() -> None:
    table = table_with_gaps()
    text = '{"edges": [["x0", "R[x0]", {"sign": "high"}], ["Z", "R[x1]"]]}'
    assert MissingnessGraph.from_json(text, table).parents("x1") == ("Z",)
    assert MissingnessGraph.from_json('{"preset": "self-masking"}', table) == MissingnessGraph.self_masking(table)
    named = '{"preset": "mcar", "columns": ["a", "b"], "incomplete": ["b"], "auxiliaries": ["u"]}'
    assert MissingnessGraph.from_json(named) == MissingnessGraph.mcar(["a", "b"], incomplete=["b"], auxiliaries=["u"])
    loose = MissingnessGraph([("x0", "R[x0]")])
    assert MissingnessGraph.from_json(loose.to_json()) == loose
    assert MissingnessGraph.from_json(loose.to_json(), table) == loose.on(table)


@pytest.mark.parametrize("text", ["[]", "{}", '{"edges": [], "preset": "mcar"}', '{"edges": [], "knots": 1}', "{"])
def test_json_that_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"graph: expected|Expecting"):
        MissingnessGraph.from_json(text)


def test_labels_that_no_file_can_hold() -> None:
    with pytest.raises(TypeError, match=r"column \('a', 1\): expected text or a number"):
        MissingnessGraph.mcar([("a", 1)]).to_json()
    json.loads(MissingnessGraph.mcar([0, 1]).to_json())


def test_pickle() -> None:
    assert pickle.loads(pickle.dumps(preset("general"))) == preset("general")


@given(graph_data())
def test_dot_names_every_edge(data: dict) -> None:
    graph = MissingnessGraph.from_dict(data)
    dot = graph.to_dot()
    assert dot.count("->") == len(graph.dag.edges)
    assert all(json.dumps(str(name)) in dot for name in graph.dag)


def test_plot_draws_on_a_figure_of_its_own_or_on_yours() -> None:
    graph = MissingnessGraph([("R[age]", "R[income]"), ("Z", "R[age]"), ("age", "R[age]", {"sign": 1})], NAMES, **HOLES)
    ax = graph.plot()
    ax.figure.canvas.draw()
    assert {text.get_text() for text in ax.texts} >= {"R[income]", "Z", "region", "low goes\nmissing"}
    mine = mpl.figure.Figure().subplots()
    assert graph.plot(mine) is mine
