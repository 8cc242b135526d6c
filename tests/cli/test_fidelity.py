"""The shell gives back the text that it got: outside the gaps every byte of a completed file is the input's."""

from __future__ import annotations

import gzip
import re

import pytest

from pyro_mnar import Table
from pyro_mnar.cli import main
from pyro_mnar.tables.delimited_text import DelimitedText

QUICK = ["--epochs", "1", "--draws", "1", "--quiet", "--particles", "2"]
GAP = "¤"  # where a file has a gap; nothing in a file, and something in a completed one

# Per file: its text, how it is encoded, options, what fills a gap.
FILES = {
    "digits after zeros": ("id,age,x\n007,01,1.5\n008,02,¤\n009,02,3\n010,01,0.10\n", "utf-8", ["--carry", "id"], None),
    "postcodes": ("zip,x\n01210,1\n01210,2\n¤,3\n75001,¤\n75001,5\n", "utf-8", [], r"01210|75001|-?[\d.e-]+"),
    "trailing zeros": ("a,b\n1.10,2.00\n¤,3.50\n2.20,¤\n0.10,1.00\n", "utf-8", [], None),
    "exponents": ("a,b\n1e3,2E-5\n1.5e3,¤\n¤,1e-5\n+2e3,.5\n", "utf-8", [], None),
    "booleans in capitals": ("a,b\nTRUE,1.5\nFALSE,2\n¤,¤\nTRUE,0.5\n", "utf-8", [], r"TRUE|FALSE|-?[\d.e-]+"),
    "booleans in small letters": ("a,b\ntrue,1.5\n¤,2\nfalse,¤\ntrue,0.5\n", "utf-8", [], r"true|false|-?[\d.e-]+"),
    "dates": (
        "day,x\n2021-01-02,1\n2021-03-04,¤\n¤,2.5\n1066-10-14,4\n", "utf-8", [], r"\d{4}-\d\d-\d\d|-?[\d.e-]+",
    ),
    "times with a zone": (
        "at,x\n2021-01-02T00:00:00Z,1\n¤,2.5\n2021-01-04T10:30:00Z,4\n",
        "utf-8",
        [],
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ",
    ),
    "seventeen digits": (
        "a,b\n0.12345678901234567,1\n0.3000000000000000444,¤\n¤,3\n1.0000000000000002,2.5\n", "utf-8", [], None,
    ),
    "beyond 2**53": (
        "big,x\n9007199254740993,1\n9007199254740995,¤\n9007199254740997,0.5\n123456789012345678901234567890,4\n",
        "utf-8",
        ["--carry", "big"],
        None,
    ),
    "whole numbers beyond 2**53 with a gap": (
        "big,x\n9007199254740993,1\n¤,¤\n9007199254740997,0.5\n9007199254741021,4\n", "utf-8", [], None,
    ),
    "marks, the best first": (
        "mark,x\n1,1.5\n¤,¤\n5,0.5\n3,4\n1,2\n", "utf-8", ["--order", "mark=5,3,1"], r"[135]|-?[\d.e-]+",
    ),
    "a header without a name": (",x\n0,1.5\n1,¤\n2,0.25\n3,4\n", "utf-8", ["--carry", "Unnamed: 0"], None),
    "quotes and separators in cells": (
        '"na""me",x,why\n"Smith, J.",1,"he said ""no"""\n"O\'Neil",¤,"two\nlines"\n"Wu",3,\'single\'\n"Li",¤,"\t"\n',
        "utf-8",
        ["--carry", 'na"me,why'],
        None,
    ),
    "quoted numbers": ('"a","b"\n"1.50","2"\n¤,"3"\n"0.5","7"\n"2",¤\n', "utf-8", [], r'"-?[\d.e-]+"'),
    "a quoted gap": ('a,b\n1.5,x\n¤,y\n2,x\n0.25,y\n', "utf-8", [], None),
    "CRLF": ("a,b\r\n1,2\r\n3,¤\r\n2,3.5\r\n4,1\r\n", "utf-8", [], None),
    "CR": ("a,b\r1,2\r3,¤\r2,3.5\r4,1\r", "utf-8", [], None),
    "line ends of two kinds": ("a,b\n1,2\r\n3,¤\n2,3.5\r\n4,1\n", "utf-8", [], None),
    "no end of the last line": ("a,b\n1,2\n3,4\n2,3.5\n4,¤", "utf-8", [], None),
    "blank lines": ("a,b\n\n1,2\n3,¤\n\n2,3.5\n4,1\n\n\n", "utf-8", [], None),
    "one column": ("a\n1\n¤\n2.5\n3\n", "utf-8", ["--auxiliary", "mask"], None),
    "a byte order mark": ("\ufeffa,b\r\n1,2\r\n3,¤\r\n2,3.5\r\n4,1\r\n", "utf-8", [], None),
    "UTF-16": ("\ufeffa,b\r\n1,é\r\n3,¤\r\n2,ü\r\n4,é\r\n", "utf-16-le", [], "[éü]"),
    "Windows-1252": ("a,b\n1,Zoë\n3,¤\n2,€\n4,Zoë\n", "cp1252", [], "Zoë|€"),
    "UTF-8 of many scripts": ("a,b\n1,東京\n3,¤\n2,مرحبا\n4,東京\n", "utf-8", [], "東京|مرحبا"),
    "semicolons and decimal commas": (
        "a;b\n1,50;2\n3,1;¤\n¤;0,25\n4;1,0\n", "utf-8", ["--decimal", ","], r"-?[\de-]+(,[\de-]+)?",
    ),
    "tabs": ("a\tb\n1\t2\n3\t¤\n2\t3.5\n4\t1\n", "utf-8", [], None),
    "bars": ("a|b\n1|2\n3|¤\n2|3.5\n4|1\n", "utf-8", ["--sep", "|"], None),
    "words that look like gaps": (
        "where,b\nNA,1.5\nDE,¤\n¤,2\nnull,3\nNone,4\nnan,5\nNA,0.5\n", "utf-8", [], r"NA|DE|null|None|nan|-?[\d.e-]+",
    ),
    "spaces around": ("a, b\n 1 ,x \n 3,¤\n2 , y\n4,x \n", "utf-8", [], "x | y"),
    "percent and dollars": ("a,b\n12%,$1.50\n¤,$2\n5%,¤\n7.5%,$0.30\n", "utf-8", [], r"-?[\d.e-]+%|\$-?[\d.e-]+"),
    "thousands": (
        'a,b\n"1,234",1\n¤,2\n"12,345.50",0.5\n999,¤\n', "utf-8", ["--thousands", ","], r'"?-?[\d,.e-]+"?',
    ),
    "slashed dates": (
        "d,b\n02/01/2021,1\n¤,2\n14/03/2021,0.5\n01/02/2021,¤\n",
        "utf-8",
        ["--date-format", "d=%d/%m/%Y"],
        r"\d\d/\d\d/\d{4}|-?[\d.e-]+",
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", FILES)
@pytest.mark.filterwarnings(
    "ignore:carried through", "ignore:no auxiliary columns were named", "ignore:words that look like codes"
)
def test_outside_the_gaps_every_byte_is_the_file_s(case, tmp_path, capsys):
    text, encoding, options, filling = FILES[case]
    data = tmp_path / "survey.csv"
    given = text.replace(GAP, '""' if case == "a quoted gap" else "").encode(encoding)
    data.write_bytes(given)
    assert main(["impute", str(data), "--out", str(tmp_path / "out"), *options, *QUICK]) == 0, capsys.readouterr().err
    expected = re.escape(text).replace(re.escape(GAP), f"({filling or r'-?[0-9.]+(e-?[0-9]+)?'})")
    for name in ("draw_01.csv", "mean.csv"):
        written = (tmp_path / "out" / name).read_bytes().decode(encoding)
        loose = expected if name == "draw_01.csv" else re.escape(text).replace(re.escape(GAP), "(.+?)")
        assert re.fullmatch(loose, written), written
    assert data.read_bytes() == given


@pytest.mark.parametrize("case", FILES)
def test_nothing_replaced_is_the_file_itself(case, tmp_path):
    text, encoding, options, _ = FILES[case]
    (tmp_path / "t.csv").write_bytes(text.replace(GAP, "").encode(encoding))
    separator = "|" if "|" in options else None
    read = DelimitedText.read(tmp_path / "t.csv", separator=separator)
    assert read.written({}) == (tmp_path / "t.csv").read_bytes()


def test_what_is_guessed_is_said(tmp_path, capsys):
    (tmp_path / "t.csv").write_bytes("a;b\n1;Zoë\n2;\n3;Ann\n4;Zoë\n".encode("cp1252"))
    assert main(["impute", str(tmp_path / "t.csv"), "--out", str(tmp_path / "out"), *QUICK]) == 0
    said = capsys.readouterr().out
    assert "encoding: cp1252, since line 2 is not UTF-8 (byte 0xEB) (--encoding overrules)" in said
    assert "separator: ';'" in said and "(--sep overrules)" in said


def test_words_are_gaps_where_they_are_named(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1.5,NA\n?,2\n2.5,3\nNA,4.5\n3,5\n")
    options = ["--na", "NA,?", *QUICK]
    assert (
        main(["impute", str(tmp_path / "t.csv"), "--out", str(tmp_path / "out"), "--auxiliary", "mask", *options]) == 0
    )
    written = (tmp_path / "out" / "draw_01.csv").read_text()
    number = r"-?[0-9.]+(e-?[0-9]+)?"
    assert re.fullmatch(rf"a,b\n1\.5,{number}\n{number},2\n2\.5,3\n{number},4\.5\n3,5\n", written)


def test_codes_are_imputed_wherever_they_stand_and_reasons_keep_them(tmp_path, capsys):
    (tmp_path / "t.csv").write_text("a,b,c\n1,-99,x\n-98,2.5,y\n3,-97,x\n4,4,-98\n5,5,y\n6,1,x\n")
    options = ["--na-values", "-99,-98,-1", "--not-applicable", "b=-97", *QUICK]
    assert (
        main(["impute", str(tmp_path / "t.csv"), "--out", str(tmp_path / "out"), "--auxiliary", "mask", *options]) == 0
    )
    assert "-1 stands in no cell" in capsys.readouterr().out
    written = (tmp_path / "out" / "draw_01.csv").read_text()
    assert "-99" not in written and "-98" not in written
    assert written.splitlines()[3] == "3,-97,x"


# What is wrong with a file is said by file, line and column, with the option that mends it.
WRONG = {
    "a question mark": ("a,b\n1,2\n2,?\n3,4\n5,6\n", [], ["line 3", "'b'", "'?'", "--na '?'"]),
    "a decimal comma": ("a;b\n1,5;2\n2,5;3\n", [], ["line 2", "'a'", "--decimal ','"]),
    "thousands": ('a,b\n"1,234,567",2\n"2,000,000",3\n', [], ["line 2", "'a'", "--thousands ','"]),
    "thousands or decimals": ('a,b\n"1,234",2\n"2,345",3\n', [], ["--thousands ','", "--decimal ','"]),
    "thousands and a decimal comma": ("a;b\n1.234,5;2\n2.345,6;3\n", [], ["--thousands '.'", "--decimal ','"]),
    "days first": ("a,b\n14/03/2021,2\n,3\n15/03/2021,1\n", [], ["line 2", "--date-format a=%d/%m/%Y", "--carry a"]),
    "days first or months": ("a,b\n01/03/2021,2\n,3\n", [], ["%d/%m/%Y", "or", "%m/%d/%Y"]),
    "days first, short years": ("a,b\n14/3/21,2\n,3\n15/3/21,1\n", [], ["line 2", "--date-format a=%d/%m/%y"]),
    "years first": ("a,b\n2021/03/14,2\n,3\n2021/03/15,1\n", [], ["line 2", "--date-format a=%Y/%m/%d"]),
    "months by name": ("a,b\n14-Mar-2021,2\n,3\n1-May-2021,1\n", [], ["line 2", "--date-format a=%d-%b-%Y"]),
    "a word among shares": ("a,b\n12%,1\n?,2\n5%,3\n7%,5\n", [], ["line 3", "'a'", "'?'", "--na '?'"]),
    "a title above": ("a survey\n\nx,y\n1,2\n3,\n", [], ["line 3", "3 lines have 2, from line 3 on", "remove"]),
    "an archive": ("PK\x03\x04 and so on", [], ["zip archive", ".xlsx"]),
    "a date of another form": ("a,b\n14/03/2021,1\n2021,3\n", ["--date-format", "a=%d/%m/%Y"], ["line 3", "'2021'"]),
    "signs unlike": ("a,b\n$1,2\n€2,3\n$4,1\n", [], ["line 2", "'a'", "same sign"]),
    "one sign": ("a,b\n$1,2\n2,3\n$4,1\n", [], ["line 2", "'a'", "same sign"]),
    "cells too few": ("a,b\n1,2\n3\n", [], ["line 3", "2 cells", "got 1"]),
    "cells too many": ("a,b\n1,2\n3,4,5\n", [], ["line 3", "2 cells", "got 3", "quotes"]),
    "another separator": ("a;b,c\n1;2\n3;4\n", [], ["line 2", "--sep ';'"]),
    "no end of a quote": ('a,b\n1,"2\n3,4\n', [], ["line 2", "quote"]),
    "a name twice": ("a,b,a\n1,2,3\n", [], ["'a'", "twice"]),
    "nothing": ("", [], ["empty"]),
    "NUL": ("a,b\n1,\0\n", [], ["NUL", "--encoding"]),
    "not in the encoding": ("a,b\n1,é\n", ["--encoding", "ascii"], ["line 2", "0xC3", "--encoding"]),
    "no encoding": ("a,b\n1,2\n", ["--encoding", "klingon"], ["encoding", "'klingon'"]),
    "no separator": ("a,b\n1,2\n", ["--sep", ",,"], ["sep", "',,'"]),
    "no decimal": ("a,b\n1,2\n", ["--decimal", "x"], ["decimal", "'x'"]),
    "one mark for two": ("a;b\n1;2\n", ["--decimal", ",", "--thousands", ","], ["thousands"]),
    "carry nothing": ("a,b\n1,2\n", ["--carry", "z"], ["'z'", "['a', 'b']"]),
    "a constraint without a sign": ("a,b\n1,\n2,3\n", ["--constraint", "a b"], ["constraint", "'a b'", "start <= end"]),
    "a constraint of no column": ("a,b\n1,\n2,3\n3,4\n", ["--constraint", "a <= z", "--auxiliary", "mask"], ["'z'"]),
    "a broken constraint": ("a,b\n1,\n3,2\n1,5\n", ["--constraint", "a <= b"], ["line 3"]),
    "one level": ("a,b\nx,\ny,2\n", ["--order", "a=x"], ["--order", "'a'"]),
    "levels left out": ("a,b\nx,\ny,2\nz,1\n", ["--order", "a=x,y"], ["'a'", "'z'", "line 4"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_with_the_place_and_the_option_that_mends_it(case, tmp_path, capsys):
    text, options, parts = WRONG[case]
    (tmp_path / "t.csv").write_bytes(text.encode())
    assert main(["impute", str(tmp_path / "t.csv"), "--out", str(tmp_path / "out"), *options, *QUICK]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert [part for part in ["t.csv", *parts] if part not in said and part != "t.csv"] == [], said
    assert not (tmp_path / "out").exists()


def test_a_compressed_file_comes_back_compressed(tmp_path):
    text = "a,b\r\n1.50,x\r\n,y\r\n2,x\r\n0.25,\r\n3,y\r\n"
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(text.encode()))
    assert main(["impute", str(tmp_path / "t.csv.gz"), "--out", str(tmp_path / "out"), "--auxiliary", "", *QUICK]) == 0
    expected = re.escape(text).replace("\\\n,y", "\\\n[-0-9.e]+,y").replace("0\\.25,", "0\\.25,[xy]")
    for name in ("draw_01.csv.gz", "mean.csv.gz"):
        assert re.fullmatch(expected, gzip.decompress((tmp_path / "out" / name).read_bytes()).decode())
    table = Table.from_file(tmp_path / "t.csv.gz", auxiliary=[])
    table.write(table.frame, tmp_path / "own.csv.gz")
    assert gzip.decompress((tmp_path / "own.csv.gz").read_bytes()).decode() == text
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(text.encode())[:-9])
    with pytest.raises(ValueError, match=r"t\.csv\.gz: cannot be unpacked by gzip"):
        Table.from_file(tmp_path / "t.csv.gz")


def test_standard_input_is_no_file(capsys):
    assert main(["describe", "-"]) == 2
    assert "-: expected a file, since it is read more than once" in capsys.readouterr().err


def test_words_in_place_of_cells_are_said(tmp_path, capsys):
    (tmp_path / "t.csv").write_text("x y\n1 2\n3 4\n")
    main(["describe", str(tmp_path / "t.csv")])
    assert "--sep space divides them" in capsys.readouterr().out


def test_an_order_of_words_is_ordinal(tmp_path, capsys):
    rows = ["primary", "tertiary", "", "secondary"] * 6
    (tmp_path / "t.csv").write_text("age,school\n" + "".join(f"{20 + at},{word}\n" for at, word in enumerate(rows)))
    order = ["--order", "school=primary,secondary,tertiary"]
    assert main(["impute", str(tmp_path / "t.csv"), "--out", str(tmp_path / "out"), *order, *QUICK]) == 0
    after = (tmp_path / "out" / "draw_01.csv").read_text().splitlines()[1:]
    assert {line.split(",")[1] for line in after} <= {"primary", "secondary", "tertiary"}


def test_constraints_hold_in_every_draw(tmp_path):
    rows = ["1,2", "2,", "3,5", ",4", "1,3", "2,2.5"]
    (tmp_path / "t.csv").write_text("start,end\n" + "\n".join(rows) + "\n")
    options = ["--auxiliary", "mask", "--constraint", "start <= end", "--epochs", "1", "--draws", "5", "--quiet"]
    assert main(["impute", str(tmp_path / "t.csv"), "--out", str(tmp_path / "out"), *options]) == 0
    for path in (tmp_path / "out").glob("draw_*.csv"):
        for line in path.read_text().splitlines()[1:]:
            start, end = map(float, line.split(","))
            assert start <= end
