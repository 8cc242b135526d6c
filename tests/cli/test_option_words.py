"""Messages in the shell name the shell's options, such that what they name can be pasted; in Python, Python's."""

from __future__ import annotations

import re
import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_mnar import Table
from pyro_mnar.cli import main
from pyro_mnar.cli.declarations import Declarations
from pyro_mnar.cli.option_words import in_options
from pyro_mnar.cli.verbs import parsed
from pyro_mnar.kinds import Ordinal

QUICK = ["--epochs", "1", "--draws", "2", "--quiet", "--particles", "2"]
ARGUMENT = re.compile(r"\b(kinds|na_values|carry|na|auxiliary|sep|decimal|encoding|date_format|mechanism)=|\bfit\(")

SAID = {
    "carry=['a', 'b c'] keeps": "--carry 'a,b c' keeps",
    "kinds={'Unnamed: 0': ...}, models it": "--kinds 'Unnamed: 0=KIND', models it",
    "declare kinds={'x': 'heavy_tailed'}": "declare --kinds x=heavy_tailed",
    "kinds={'g': Ordinal(['lo', 'hi'])}": "--order g=lo,hi",
    "both: kinds={'g': Binary(('no', 'yes'))}": (
        'both: in a schema file [columns."g"] kind = {name = "binary", levels = ["no", "yes"]}'
    ),
    "na_values={'a': [98, 99], 'b': [-9]} makes": "--na-values a=98,99 --na-values b=-9 makes",
    "na=['?', 'n/a'] takes": "--na '?,n/a' takes",
    "(mechanism= or graph= says otherwise)": "(--mechanism or --graph says otherwise)",
    "declare mechanism=SelfMasking if you believe it, else mechanism=Constant": (
        "declare --mechanism self-masking if you believe it, else --mechanism mcar"
    ),
    "ignorable ones: fit(..., num_particles=20), or a guide": "ignorable ones: --particles 20, or a guide",
    "too narrow. Draw from fit(..., bootstrap=20).": "too narrow. Draw from --bootstrap 20.",
    "(auxiliary='mask' is the substitute, auxiliary=[] is silent)": (
        "(--auxiliary mask is the substitute, --auxiliary '' is silent)"
    ),
    "Table.from_frame(training_rows, auxiliary=['a', 'b']), and": "--auxiliary a,b, and",
    "in Table.from_frame(auxiliary=[...])": "in --auxiliary A,B",
    "(sep= overrules)": "(--sep overrules)",
    "sep='\\t'": "--sep tab",
    "decimal=',' takes ',' for": "--decimal ',' takes ',' for",
    "date_format={'born on': '%d/%m/%Y'} reads": "--date-format 'born on=%d/%m/%Y' reads",
    "what has no option: fit(..., start=this_fit)": "what has no option: fit(..., start=this_fit)",
    "dates as text: pandas.to_datetime(frame['b c'], format='%d/%m/%Y'). So": (
        "dates as text: saved as CSV, --date-format 'b c=%d/%m/%Y' reads it. So"
    ),
    "(numbers with thousands: pandas.to_numeric(frame['a'].str.replace(',', '')))": (
        "(numbers with thousands: saved as CSV it is read)"
    ),
    "no end: carry=['a": "no end: carry=['a",
    "rank == 3 and x.carry=['a'] stay": "rank == 3 and x.carry=['a'] stay",
}


@pytest.mark.parametrize("message", SAID)
def test_arguments_become_options_and_nothing_else_changes(message):
    assert in_options(message) == SAID[message]


NAMES = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="\r\n"), min_size=1, max_size=8)
WORDS = NAMES | st.sampled_from(["a,b", "it's", '"', "a b", "--x", "007", "na=['x']"])


def declared(options: str) -> Declarations:
    # Bound by "=", as a word that begins with a dash has to be.
    words = shlex.split(options)
    return Declarations.of_options(
        parsed(["describe", "t.csv", *map("=".join, zip(words[::2], words[1::2], strict=True))])
    )


@settings(max_examples=20)
@given(st.lists(WORDS, min_size=1, max_size=3, unique=True), st.lists(WORDS, min_size=2, max_size=3, unique=True))
def test_what_a_message_names_can_be_pasted(names, levels):
    assert declared(in_options(f"carry={names!r}")).carry == tuple(names)
    assert declared(in_options(f"na={names!r}")).na == tuple(names)
    assert declared(in_options(f"kinds={dict.fromkeys(names, 'positive')!r}")).kinds == dict.fromkeys(names, "positive")
    plain = [level for level in levels if "=" not in level]
    for name in names:
        order = declared(in_options(f"kinds={{{name!r}: Ordinal({plain!r})}}")).order if plain else {name: ()}
        assert order == {name: tuple(plain)}
        codes = declared(in_options(f"na_values={{{name!r}: [-98, 99]}}")).na_values
        assert codes == {name: (-98, 99)}


def rows(*cells: str) -> str:
    return "".join(f"{cell},{at % 9}.5,{at}\n" for at, cell in enumerate(cells))


# What the shell says of a file: the file, options, and what stands in a message.
FILES = {
    "identifiers": ("g,y,n\n" + rows(*[f"u{at}" for at in range(40)]), [], ["--carry g,n", "--kinds g=KIND"]),
    "codes": ("x,y\n" + "-99,1\n" * 5 + "".join(f"{at % 7},{at}.5\n" for at in range(40)), [], ["--na-values x=-99"]),
    "a value far away": ("x,y\n" + "".join(f"{at % 5 + at / 99:.3f},{at % 7}.5\n" for at in range(99)) + ",1\n1e6,2\n",
                         [], ["in line 102 lies", "--kinds x=heavy_tailed"]),
    "no column complete": ("x,y\n1.5,\n,2\n3,4\n2,2.5\n7,1\n", [], ["--auxiliary mask", "--auxiliary ''"]),
    "no value": ("x,y\n1.5,\n2,\n", [], ["--carry y"]),
    "a checkbox": ("x,y\nyes,1\n,2\nyes,3.5\n", [], ['levels = ["no", "yes"]']),
    "words without an order": ("x,y\nlo,1\nhi,2\n,3.5\n", ["--kinds", "x=ordinal"], ["--order x=hi,lo"]),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
@pytest.mark.filterwarnings("always")
def test_the_shell_says_options(case, tmp_path, capfd):
    text, options, parts = FILES[case]
    (tmp_path / "t.csv").write_text(text)
    main(["impute", str(tmp_path / "t.csv"), "--out", str(tmp_path / "out"), *options, *QUICK])
    out, err = capfd.readouterr()
    assert [part for part in parts if part not in err] == [], err
    assert not ARGUMENT.search(out + err), out + err


@pytest.mark.slow
@pytest.mark.filterwarnings("always")
def test_check_and_report_say_options(tmp_path, capfd):
    (tmp_path / "t.csv").write_text("x,y\n" + "".join(f"{at % 7 if at % 3 else ''},{at % 5}.5\n" for at in range(60)))
    data, fit, page = str(tmp_path / "t.csv"), str(tmp_path / "t.fit"), tmp_path / "page.md"
    assert main(["fit", data, "--out", fit, "--auxiliary", "mask", *QUICK[:2], *QUICK[4:]]) == 0
    main(["check", data, "--fit", fit, "--no-twins", "--quiet", "--draws", "2"])
    assert main(["report", data, "--fit", fit, "--out", str(page), "--no-checks", "--quiet", "--draws", "2"]) == 0
    out, err = capfd.readouterr()
    said = out + err + page.read_text()
    expected = ("--particles 20", "--detail", "--tipping COLUMN=FROM,TO")
    assert [option for option in expected if option not in said] == []
    assert not ARGUMENT.search(said), ARGUMENT.search(said)


def test_python_says_arguments_and_lines(tmp_path):
    (tmp_path / "t.csv").write_text(FILES["a value far away"][0])
    with pytest.warns(UserWarning, match=r"in line 102 lies .* kinds={'x': 'heavy_tailed'}"):
        Table.from_csv(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("x,y\n1,?\n2,2\n3,5\n")
    with pytest.raises(ValueError, match=r"t.csv, line 2, column 'y'.* na=\['\?'\] takes") as caught:
        Table.from_csv(tmp_path / "t.csv")
    assert "--" not in str(caught.value)
    (tmp_path / "t.csv").write_text("x,y\nlo,1\nhi,2\nmid,3\n,1\n")
    with pytest.raises(ValueError, match=r"t.csv: column 'x'.* got 'mid' in line 4"):
        Table.from_csv(tmp_path / "t.csv", kinds={"x": Ordinal(("lo", "hi"))})


@pytest.mark.parametrize("how", ["option", "schema"])
def test_nothing_to_condition_on_can_be_said(how, tmp_path, capsys):
    (tmp_path / "t.csv").write_text("x,y\n1.5,\n,2\n3,4\n2,2.5\n7,1\n")
    (tmp_path / "s.toml").write_text('auxiliary = ""\n')
    given = ["--auxiliary", ""] if how == "option" else ["--schema", str(tmp_path / "s.toml")]
    draft = tmp_path / "draft.toml"
    assert main(["describe", str(tmp_path / "t.csv"), *given, "--write", str(draft)]) == 0
    assert capsys.readouterr().err == "" and 'auxiliary = ""' in draft.read_text()
