"""What is public is documented and tested, and links of pages lead somewhere."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

import mutants
import pyro_mnar
from pyro_mnar import acquisition, baselines, datasets, guides, kinds, mechanisms, models

ROOT = Path(__file__).parents[1]
ROOMS = [pyro_mnar, models, guides, mechanisms, kinds, datasets, baselines, acquisition]
NAMES = sorted({(room.__name__, name) for room in ROOMS for name in room.__all__})
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
# In the line, of a picture, of a reference below, of HTML.
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)|^\[[^\]]+\]:\s+(\S+)|\b(?:src|href)=\"([^\"]+)\"", re.MULTILINE)
# What tests meet without a name: protocols and constants, and parts of what they call.
MET = {
    "Averaged": "what normal_mixture_models gives",
    "normal_mixture_model": "a system of the experiments on tables",
    "normal_mixture_models": "a system of the experiments on tables",
    "Blocks": "the mechanism of GINA where columns go missing together",
    "Choice": "of every column of every table",
    "choice_of": "what Table.from_frame asks of every column",
    "LEAST_NOISE": "the bound that Continuous refuses",
    "LinearInOwnValue": "a protocol, of SelfMasking",
    "NamesParents": "a protocol, of all mechanisms",
    "Source": "of the loaders of data sets",
    "search_twins": "by check_identifiability",
}
OUTSIDE = re.compile(r"[a-z]+:")


def anchors(page: Path) -> set[str]:
    """What the headings of a page are called in links."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_of_pages_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for link in map("".join, LINK.findall(text)):
        if OUTSIDE.match(link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link} leads nowhere"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{page.name}: {link} has no such heading"


@pytest.mark.parametrize(("room", "name"), NAMES)
def test_public_names_say_what_they_are(room: str, name: str) -> None:
    value = getattr(next(one for one in ROOMS if one.__name__ == room), name)
    if not (inspect.isclass(value) or inspect.isfunction(value)):
        return
    assert (value.__doc__ or "").strip(), f"{room}.{name} has no docstring"
    if inspect.isclass(value):
        for member, function in vars(value).items():
            is_public = inspect.isfunction(function) and not member.startswith("_")
            assert not is_public or inspect.getdoc(getattr(value, member)), f"{room}.{name}.{member} has no docstring"


def test_every_public_name_is_used_by_a_test() -> None:
    used: set[str] = set()
    for file in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Name):
                used.add(node.id)
            elif isinstance(node, ast.Attribute):
                used.add(node.attr)
            elif isinstance(node, ast.ImportFrom):
                used.update(alias.name for alias in node.names)
    # A result's class is used where a test calls what returns it.
    values = [getattr(room, name) for room in ROOMS for name in room.__all__ if name in used]
    functions = [value for value in values if inspect.isfunction(value)]
    functions += [one for value in values if inspect.isclass(value) for one in vars(value).values() if callable(one)]
    returned = " ".join(str(getattr(one, "__annotations__", {}).get("return", "")) for one in functions)
    used.update(re.findall(r"\w+", returned))
    assert sorted({name for _, name in NAMES} - used - set(MET)) == []


def test_mutants_are_of_the_sources_as_they_are() -> None:
    """Each replaces a text that stands exactly once in its file, and is noticed by tests that exist."""
    assert len(mutants.MUTANTS) >= 60
    assert len({mutant.name for mutant in mutants.MUTANTS}) == len(mutants.MUTANTS)
    for mutant in mutants.MUTANTS:
        text = (ROOT / mutant.file).read_text(encoding="utf-8")
        assert text.count(mutant.old) == 1, mutant.name
        assert mutant.old != mutant.new
        for argument in mutant.tests.split(" "):
            assert not argument.startswith("tests/") or (ROOT / argument).exists(), mutant.name


REFERENCE = re.compile(r":(?:class|func|meth|mod|attr|data|exc):`~?(?:[^`<]+ <)?([\w.]+)(?:\(\))?>?`")
FOLDERS = {"pyro_mnar": ROOT / "pyro_mnar", "pyro_mnar.models": ROOT / "models", "pyro_mnar.guides": ROOT / "guides"}


def is_there(name: str) -> bool:
    """Whether a dotted name of the package leads to something: a module, or what one holds."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:cut]))
        except ImportError:
            continue
        for part in parts[cut:]:
            if part in getattr(found, "__annotations__", {}):
                return True  # a field without a default
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


@pytest.mark.slow
def test_references_of_docstrings_lead_somewhere() -> None:
    """From where they stand: a name of the class, of the module, of the package, or a whole one."""
    lost, seen = [], 0
    for package, folder in FOLDERS.items():
        for file in folder.rglob("*.py"):
            parts = file.relative_to(folder).with_suffix("").parts
            module = ".".join([package, *(part for part in parts if part != "__init__")])
            tree = ast.parse(file.read_text(encoding="utf-8"))
            scopes = [
                (module, tree),
                *((f"{module}.{one.name}", one) for one in tree.body if isinstance(one, ast.ClassDef)),
            ]
            for scope, node in scopes:
                inner = [one for one in node.body if isinstance(one, ast.FunctionDef)]
                for text in (ast.get_docstring(one) or "" for one in (node, *inner)):
                    for name in REFERENCE.findall(text):
                        seen += 1
                        whole = [f"{place}.{name.lstrip('.')}" for place in (scope, module, "pyro_mnar")]
                        whole += [name] if name.startswith("pyro_mnar") else []
                        if not any(map(is_there, whole)):
                            lost.append(f"{file.relative_to(ROOT)}: {name}")
    assert lost == []
    assert seen > 300
