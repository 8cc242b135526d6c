"""Files: CSV and fits."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bad_inputs.case import Case, of_frame, pair, refused, taken, untrained
from pyro_mnar import Fit, Table, fit


def written(content: str | bytes, call: Callable[[Path], Any]) -> Any:
    """What comes of a file of this content, whose name is t.csv."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return call(path)


def csv(content: str | bytes, **options: Any) -> Table:
    return written(content, lambda path: Table.from_csv(path, auxiliary=[], **options))


def loaded(content: str | bytes) -> Fit:
    return written(content, Fit.load)


def saved() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        untrained().save(Path(folder) / "fit")
        return (Path(folder) / "fit").read_bytes()


def of_other_archive() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        torch.save({"a": 1}, Path(folder) / "t")
        return (Path(folder) / "t").read_bytes()


def in_place_of_a_folder(call: Callable[[Path], Any]) -> Any:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "folder"
        folder.mkdir()
        return call(folder)


CASES: list[Case] = [
    refused("an empty file", lambda: csv(""), "t.csv", "empty"),
    refused("a file of blank lines", lambda: csv("\n\n\n"), "t.csv"),
    refused("a header alone", lambda: csv("a,b\n"), "at least one row"),
    refused("a name twice in the header", lambda: csv("a,b,a\n1,2,3\n"), "'a'", "once"),
    refused("a line with more cells than the header", lambda: csv("a,b\n1,2\n1,2,3\n"), "line 3", "2 cells"),
    refused("a line with fewer cells than the header", lambda: csv("a,b,c\n1,2,3\n1,2\n"), "line 3", "3 cells"),
    refused("a word among numbers", lambda: csv("a,b\n1,2\n2,lots\n3,4\n"), "line 3", "'b'", "'lots'"),
    refused("infinity in a CSV file", lambda: csv("a,b\n1,2\n2,inf\n3,4.5\n4,\n5,7\n"), "'b'", "inf"),
    refused("1e999 in a CSV file", lambda: csv("a,b\n1,2\n2,1e999\n3,4.5\n4,\n5,7\n"), "'b'"),
    refused("a number of 400 digits", lambda: csv(f"a,b\n1,2\n2,{10**400}\n3,4.5\n4,\n5,7\n"), "'b'"),
    refused("bytes of zero", lambda: csv(b"a,b\n1,\x00\n2,3\n"), "t.csv"),
    refused("a picture", lambda: csv(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4), "t.csv"),
    refused("UTF-16 read as UTF-8", lambda: csv("a,b\n1,2\n".encode("utf-16"), encoding="utf-8"), "t.csv", "UTF-8"),
    refused("a quote that never ends", lambda: csv('a,b\n1,"2\n3,4\n'), "t.csv", "quote"),
    refused("an encoding that is none", lambda: csv("a,b\n1,2\n", encoding="utf-99"), "utf-99"),
    refused("an encoding that is not of text", lambda: csv("a,b\n1,2\n", encoding="hex"), "encoding", "hex"),
    refused("an encoding that is a number", lambda: csv("a,b\n1,2\n", encoding=3), "encoding", "3"),
    refused("a separator of two characters", lambda: csv("a;;b\n1;;2\n", sep=";;"), "sep", "';;'"),
    refused("an empty separator", lambda: csv("a,b\n1,2\n", sep=""), "sep"),
    refused("a separator that is a number", lambda: csv("a,b\n1,2\n", sep=3), "sep", "3"),
    refused("the separator as decimal point", lambda: csv("a,b\n1,2\n", sep=",", decimal=","), "decimal"),
    refused("a decimal point of two characters", lambda: csv("a,b\n1,2\n", decimal=".."), "decimal", "'..'"),
    refused("a date that is none", lambda: csv("a,b\n2020-01-01,1\n2020-13-45,2\n", kinds={"a": "datetime"}), "'a'", "row 1"),
    refused("numbers declared dates", lambda: csv("a,b\n2,1\n3,2\n", kinds={"a": "datetime"}), "'a'", "dates", "row 0"),
    refused("a date format that is no text", lambda: csv("a,b\n2,1\n3,2\n", date_format={"a": 3}), "date_format", "'a'", "3"),
    refused("a pattern for dates that is none", lambda: csv("a,b\n1,1\nx,2\n", date_format={"a": "%Q"}), "'a'"),
    refused("a date format of a column that is not there", lambda: csv("a,b\n1,1\n", date_format={"c": "%Y"}), "'c'"),
    refused("gaps only", lambda: csv("a,b\n,1\n,2\n"), "'a'", "observed value"),
    refused("na as text", lambda: csv("a,b\n1,NA\n2,3\n", na="NA"), "na", "'NA'"),
    refused("a folder in place of a CSV file", lambda: in_place_of_a_folder(Table.from_csv), "folder"),
    refused("a CSV file that is not there", lambda: Table.from_csv("nowhere.csv"), "nowhere.csv"),
    refused("a number in place of a CSV file", lambda: Table.from_csv(3), "3"),
    refused("None in place of a CSV file", lambda: Table.from_csv(None), "None"),
    taken("a byte order mark", lambda: csv("\ufeffa,b\n1,2\n3,\n"), "no part of a name", lambda t: "a" in t.schema.names),
    taken("line ends of Windows", lambda: csv("a,b\r\n1,2\r\n3,\r\n"), "line ends", lambda t: len(t) == 2),
    taken("line ends of old Macs", lambda: csv("a,b\r1,2\r3,\r"), "line ends", lambda t: len(t) == 2),
    taken("a last line without an end", lambda: csv("a,b\n1,2\n3,"), "a line", lambda t: len(t) == 2),
    taken("a cell with a line break in quotes", lambda: csv('a,b\n"x\ny",1\nz,2\n"x\ny",\n'), "one cell", lambda t: len(t) == 3),
    taken("300 columns", lambda: csv(",".join(f"c{n}" for n in range(300)) + "\n" + ",".join("1" * 300) + "\n" + ",".join("2" * 300)),
          "read", lambda t: t.schema.num_columns == 300),
    refused("a fit from an empty file", lambda: loaded(""), "t.csv"),
    refused("a fit from text", lambda: loaded("a,b\n1,2\n"), "t.csv", "Fit.save"),
    refused("a fit from a folder", lambda: in_place_of_a_folder(Fit.load), "folder"),
    refused("a fit that is cut short", lambda: loaded(saved()[:-100]), "t.csv", "damaged"),
    refused("a fit with a changed byte", lambda: loaded(saved()[:-50] + b"?" + saved()[-49:]), "t.csv", "damaged"),
    refused("a fit of a later format", lambda: loaded(b"pyro-mnar fit 99 " + b"0" * 64 + b"\n"), "format 99", "update"),
    refused("a fit from another archive of torch's", lambda: loaded(of_other_archive()), "t.csv"),
    refused("a fit from a number", lambda: Fit.load(3), "3"),
    refused("a fit that is not there", lambda: Fit.load("nowhere.fit"), "nowhere.fit"),
    refused("a fit into a folder that is not there", lambda: untrained().save("nowhere/fit"), "nowhere"),
    refused("a fit into a folder", lambda: in_place_of_a_folder(untrained().save), "cannot write"),
    refused("a checkpoint in a folder that is not there",
            lambda: fit(*pair(), of_frame({"age": [1.0, 2, 3, 5], "income": [1.0, None, 3, 4]}), epochs=1, progress=False, checkpoint="nowhere/c"),
            "checkpoint", "nowhere"),
]  # fmt: skip
