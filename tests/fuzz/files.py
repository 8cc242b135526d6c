"""Files at random: CSV, schema files, graphs and fits, from text that nearly is one to bytes that are none."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st

from bad_inputs.case import FRAME, of_frame, untrained
from fuzz import options
from fuzz.columns import WORDS
from fuzz.oracle import completed, judged, shell
from pyro_mnar import Fit, MissingnessGraph, Table, mechanisms
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.models import GINA
from pyro_mnar.tables.delimited_text import DelimitedText
from pyro_mnar.training import files as fit_files

CELLS = st.one_of(
    st.sampled_from(
        ["", "", "1", "2", "3.5", "-1", "1e5", "007", "1,5", "1.234,5", "$3", "5%", "x", "y", "NA", "nan", "inf", '"a"',
         '"a,b"', '"a""b"', '"', "2020-01-31", "2020-13-45", "31/01/2020", "12:30", "2020-01-01T12:00:00Z", "True", "1e999",
         "9" * 30, "-99", " 4 ", "'", "\\", "1_000", "٣", "0x10", "1.", ".5", "+3", "--", "é", "\ufeff", "\x0b", "\x85", "#"]
    ),
    WORDS,
)  # fmt: skip
SEPARATORS = [",", ";", "\t", "|", " ", ":"]
HEADS = ["a,b,c", "a", "a,b", "a,a", ",", "a,,c", '"a","b"', "a;b", "id,age,income", "1,2,3", "R[a],Z", "a b,c"]
CODECS = ["utf-8", "utf-8-sig", "cp1252", "utf-16", "latin-1", "ascii", "utf-16-le", "utf-7", "idna", "nope", "hex", 3]
OF_CSV: dict[str, st.SearchStrategy[Any]] = {
    "sep": st.sampled_from([*SEPARATORS, "tab", ";;", "", 3, '"', "\n", "a", "1"]),
    "encoding": st.sampled_from(CODECS),
    "decimal": st.sampled_from([",", ".", "", "..", 3, None, "1", "e", "-"]),
    "thousands": st.sampled_from([",", ".", "'", " ", "", 3, None, "0", "-", "e"]),
    "na": st.sampled_from([["NA"], ["x", ""], "NA", [None], 3, None, ["1"], [1.0], {"a"}]),
    "date_format": st.sampled_from(
        [{"a": "%d/%m/%Y"}, {"b": "%Q"}, {"a": ""}, "%Y", {"a": 3}, {"z": "%Y"}, {"a": "%"}]
    ),
    "kinds": options.by_name(["a", "b", "c"], options.kinds()),
    "auxiliary": st.sampled_from([[], ["a"], "mask", ["b"], None]),
    "carry": st.sampled_from([["a"], ["b", "c"], "a", [3]]),
    "na_values": st.sampled_from([{"a": -99}, {"a": "x"}, {"b": [1, "2"]}, {"z": 1}]),
    "lower": st.sampled_from([{"a": 0}, {"b": "x"}]),
    "not_applicable": st.sampled_from([{"a": "b == 1"}, {"b": ["x"]}]),
    "derived": st.sampled_from([{"c": "a + b"}, {"a": "b"}]),
    "weights": st.sampled_from(["a", "z"]),
}


@st.composite
def csv_texts(draw: st.DrawFn) -> str:
    """Lines of cells under a header, most of them as wide."""
    head, separator = draw(st.sampled_from(HEADS)), draw(st.sampled_from([",", ",", *SEPARATORS]))
    width, some = head.count(",") + 1, draw(st.lists(CELLS, min_size=1, max_size=6))
    lines = draw(st.lists(st.lists(st.sampled_from(some), min_size=width, max_size=width), max_size=14))
    if draw(st.sampled_from([False, False, False, True])):
        lines.append(draw(st.lists(CELLS, max_size=5)))
    end = draw(st.sampled_from(["\n", "\n", "\r\n", "\r"]))
    text = end.join([head.replace(",", separator), *(separator.join(line) for line in lines)])
    return text + end * draw(st.sampled_from([0, 1, 1, 3]))


def changed(content: bytes) -> st.SearchStrategy[bytes]:
    """The bytes, and the same with a few of them others, more or fewer."""
    places = st.integers(0, max(0, len(content) - 1))

    def at(changes: list[tuple[int, int, bytes]]) -> bytes:
        found = content
        for place, length, put in changes:
            found = found[:place] + put + found[place + length :]
        return found

    change = st.tuples(places, st.integers(0, 3), st.binary(max_size=3))
    return st.one_of(st.just(content), st.lists(change, min_size=1, max_size=3).map(at))


def csv(data: st.DataObject) -> None:
    """``Table.from_csv``, the completed file, and the shell's reader of the same."""
    text = data.draw(csv_texts())
    content = data.draw(
        changed(text.encode(data.draw(st.sampled_from(["utf-8", "utf-8", "cp1252", "utf-16"])), "replace"))
    )
    given = data.draw(options.a_few_of(OF_CSV))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "t.csv").write_bytes(content)
        check_csv(folder, given)
        words = data.draw(st.lists(st.sampled_from(SHELL_WORDS), max_size=3))
        shell(["describe", str(folder / "t.csv"), *words])


def check_csv(folder: Path, given: dict[str, Any]) -> None:
    """A table of the file, if it is one, is completed and written, every cell that was no gap as it stood."""
    path = folder / "t.csv"
    table = judged(lambda: Table.from_csv(path, **given))
    if table is None:
        return
    found = judged(lambda: untrained(table))
    done = None if found is None else completed(found, table)
    if done is None or table.schema.codes:
        return
    written = folder / "done.csv"
    judged(lambda: table.write(next(iter(done.frames())), written))
    if written.exists():
        before = table.storage.file.text
        after = DelimitedText.read(written, separator=before.separator, encoding=before.encoding)
        assert before.names == after.names
        gaps = table.frame.isna().to_numpy()
        for row, (one, other) in enumerate(zip(before.rows, after.rows, strict=True)):
            for column, cells in enumerate(zip(one.cells, other.cells, strict=True)):
                assert gaps[row, column] or cells[0] == cells[1], f"row {row}: {cells[0]!r} became {cells[1]!r}"


SHELL_WORDS = [
    "--sep=;", "--sep=tab", "--sep=", "--decimal=,", "--thousands=.", "--encoding=cp1252", "--encoding=nope", "--na=NA,x",
    "--na=", "--date-format=a=%d/%m/%Y", "--date-format=a", "--auxiliary=a", "--auxiliary=mask", "--auxiliary=", "--carry=b",
    "--na-values=a=1,2", "--na-values=-99", "--na-values=a=x", "--not-applicable=a=b == 1", "--not-applicable=b=1",
    "--by-design=a=1", "--kinds=a=count", "--kinds=b=ordinal", "--kinds=a=categorical", "--kinds==", "--order=a=1,2,3",
    "--lower=a=0", "--upper=b=nan", "--constraint=a <= b", "--constraint=a + b = c", "--constraint=a", "--derived=c=a + b",
    "--derived=c=", "--weights=a", "--cluster=b", "--strata=c", "--threads=1", "--sheet=x", "--lower=a=1e999",
]  # fmt: skip
VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-9, 9), st.floats(), st.text(max_size=4),
        st.sampled_from(["a", "b", "mask", "auxiliary", "carry", "model", "count", "ordinal", "%Y", "x", "a <= b", "1970-01-01"]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=6,
)  # fmt: skip
ENTRIES = ["sep", "encoding", "decimal", "thousands", "sheet", "na", "codes", "constraints", "auxiliary", "x", ""]
OF_COLUMNS = ["role", "kind", "levels", "date_format", "lower", "upper", "derived", "na_values", "not_applicable",
              "by_design", "y"]  # fmt: skip
LIKELY = {
    "role": st.sampled_from(["model", "auxiliary", "carry", "weights", "cluster", "strata"]),
    "kind": st.sampled_from(["count", "ordinal", "categorical", "continuous", "binary", "datetime", "positive"]),
    "levels": st.sampled_from([[1, 2, 3], ["x", "y"], [], [1, 1], [True], [[1]], [1.5, "x"]]),
    "lower": st.floats(-2, 2),
    "derived": st.sampled_from(options.FORMULAS),
}
CSV = "a,b,c\n1,x,2.5\n2,y,\n3,,1.5\n,x,4\n2,y,7\n1,x,2.25\n"


def schemas(data: st.DataObject) -> None:
    """Schema files in TOML and JSON, by ``describe --schema``."""
    entries = {name: data.draw(VALUES) for name in data.draw(st.lists(st.sampled_from(ENTRIES), max_size=2))}
    of_columns: Any = {}
    for name in data.draw(st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=3, unique=True)):
        keys = data.draw(st.lists(st.sampled_from(OF_COLUMNS), max_size=3, unique=True))
        of_columns[name] = {
            key: data.draw(st.one_of(LIKELY[key], LIKELY[key], VALUES) if key in LIKELY else VALUES) for key in keys
        }
    entries["columns"] = data.draw(st.one_of(st.just(of_columns), st.just(of_columns), st.just(of_columns), VALUES))
    ending = data.draw(st.sampled_from(["json", "toml"]))
    text = json.dumps(entries) if ending == "json" else toml(entries)
    check_schema(data.draw(changed(text.encode("utf-8", "replace"))), ending)


def check_schema(content: bytes, ending: str) -> None:
    """What a file of this content says of a small CSV file."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "t.csv").write_text(CSV)
        (folder / f"s.{ending}").write_bytes(content)
        shell(["describe", str(folder / "t.csv"), "--schema", str(folder / f"s.{ending}")])


def toml(entries: dict[str, Any]) -> str:
    """Near enough to TOML: what it has no word for stands as JSON has it, for the reader to refuse."""
    lines = [f"{json.dumps(key)} = {_toml(value)}" for key, value in entries.items() if key != "columns"]
    if not isinstance(entries["columns"], dict):
        return "\n".join([*lines, f"columns = {_toml(entries['columns'])}"])
    for name, entry in entries["columns"].items():
        if isinstance(entry, dict):
            lines += [f"[columns.{json.dumps(name)}]", *(f"{json.dumps(k)} = {_toml(v)}" for k, v in entry.items())]
        else:
            lines = [f"columns.{json.dumps(name)} = {_toml(entry)}", *lines]
    return "\n".join(lines)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if value == "1970-01-01":
        return value
    return json.dumps(value).replace("NaN", "nan").replace("Infinity", "inf")


TABLE = of_frame(FRAME)
GRAPH = {
    "columns": ["age", "income"],
    "incomplete": ["income"],
    "auxiliaries": [["u", 1]],
    "latent": "Z",
    "named": True,
    "edges": [["age", "R[income]", {"sign": 1}], ["Z", "R[income]"]],
}


def graph_files(data: st.DataObject) -> None:
    """Graphs from JSON: one of ours with parts exchanged, and text that is none."""
    entries = data.draw(mutated(GRAPH))
    if isinstance(entries, dict) and data.draw(st.booleans()):
        entries.setdefault("preset", data.draw(st.sampled_from(["mcar", "mar", "self-masking", "x", 3, None, []])))
        entries.pop("edges", None)
    check_graph_text(data.draw(changed(json.dumps(entries).encode())))


def check_graph_text(content: bytes) -> None:
    """With and without a table; as text and as bytes."""
    text = content.decode("utf-8", "surrogateescape")
    for given in (text, content):
        for table in (None, TABLE):
            check_graph(judged(lambda given=given, table=table: MissingnessGraph.from_json(given, table)), TABLE)


def check_graph(graph: MissingnessGraph | None, table: Table) -> None:
    """It says what it is, comes back from its file, and a model is made of it or refuses it."""
    if graph is None:
        return
    assert repr(graph)
    assert graph.kind().overall
    assert graph.figure1() is not None
    assert graph.to_dot()
    text = judged(graph.to_json)
    if text is not None:
        assert MissingnessGraph.from_json(text) == graph
    judged(lambda: GINA(table, latent_dim=1, graph=graph))


@st.composite
def mutated(draw: st.DrawFn, plain: Any) -> Any:
    """Plain data with one or two parts exchanged, taken out or given twice."""
    made = copy.deepcopy(plain)
    for _ in range(draw(st.integers(0, 2))):
        at = made
        while isinstance(at, (dict, list)) and at:
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            key = draw(st.sampled_from(keys))
            if not isinstance(at[key], (dict, list)) or not at[key] or draw(st.booleans()):
                change = draw(st.sampled_from(["exchange", "exchange", "remove", "double"]))
                if change == "remove":
                    del at[key]
                elif change == "double" and isinstance(at, list):
                    at.append(copy.deepcopy(at[key]))
                else:
                    at[key] = draw(VALUES)
                break
            at = at[key]
    return made


def saved() -> tuple[Any, dict[str, Any]]:
    """What a fit's file holds: one with a mechanism, categories, codes, bounds, a constraint."""
    from pyro_mnar import InOrder

    frame = FRAME.assign(town=["x", None, "y", "x"], other=[4.0, 5.0, None, 9.0])
    table = of_frame(frame, na_values={"age": 5.0}, upper={"income": 99}, constraints=[InOrder("income", "other")],
                     carry=["age"], kinds={"town": "categorical"})  # fmt: skip
    model = GINA(table, latent_dim=1, mechanism=mechanisms.General, seed=0)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "fit"
        Fit(model, ZeroImpute(table, 1, hidden=[2], seed=0), table.schema).save(path)
        tensors, plain = fit_files.read(path)
    assert plain is not None
    return tensors, plain


SAVED = cache(saved)


def fits(data: st.DataObject) -> None:
    """Files of fits: damaged, and whole ones that say something else."""
    tensors, plain = copy.deepcopy(SAVED())
    plain = data.draw(mutated(plain))
    if data.draw(st.sampled_from([False, False, True])):
        state = tensors["fits"][0][data.draw(st.sampled_from(["model", "guide"]))]
        name = data.draw(st.sampled_from(sorted(state)))
        value = state[name]
        change = data.draw(st.sampled_from(["nan", "long", "int", "meta", "none", "number", "scalar", "huge"]))
        state[name] = {
            "nan": value * torch.nan, "long": torch.cat([value.reshape(-1)] * 2), "int": value.long(), "meta": "x",
            "none": None, "number": 3.0, "scalar": value.sum(), "huge": value * 1e38,
        }[change]  # fmt: skip
    elif data.draw(st.sampled_from([False, False, False, True])):
        fits = tensors["fits"]
        others = [None, [], {}, [None], [{}], [{"model": {}}], [*fits, *fits], fits[0]]
        tensors = data.draw(st.sampled_from([None, [], fits, *({"fits": other} for other in others)]))
    content = fit_files.content_of(tensors, plain, fit_files.FIT)
    check_fit(data.draw(st.one_of(st.just(content), st.just(content), changed(content))))


def check_fit(content: bytes) -> None:
    """The file is read, and imputes, or is refused by its name."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "t.fit"
        path.write_bytes(content)

        def load() -> Fit:
            try:
                return Fit.load(path)
            except (ValueError, TypeError) as error:
                assert "t.fit" in str(error), f"does not name the file: {error}"
                raise

        found = judged(load)
    if found is not None:
        completed(found, FRAME.assign(town=["x", None, "y", "x"], other=[4.0, 5.0, None, 9.0]))


TARGETS: tuple[Callable[[st.DataObject], None], ...] = (csv, schemas, graph_files, fits)
