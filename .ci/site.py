"""Build the documentation site: stage the pages with what they link to, then run Sphinx, whose warnings are errors.

python .ci/site.py    into build/html

Pages, notebooks and the files that they link to keep their places relative to each other, so a link that works where
the repository is browsed works here, and one that does not fails the build.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyro_mnar

ROOT = Path(__file__).resolve().parent.parent
STAGED, BUILT = ROOT / "build" / "site", ROOT / "build" / "html"
ROOMS = ("models", "guides", "mechanisms", "kinds", "datasets", "baselines", "plots")  # named after what they hold
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)|src=\"([^\"]+)\"")
MATHJAX = "sphinx-mathjax-offline"  # a package without the name of a module: it is not imported, its files are there
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def main() -> None:
    """Draw the gallery, stage and build; exits as Sphinx does."""
    _check_gallery()
    shutil.rmtree(STAGED, ignore_errors=True)
    shutil.rmtree(BUILT, ignore_errors=True)
    shutil.copytree(ROOT / "docs" / "site", STAGED)
    _stage_mathjax()
    pages = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")]
    pages += [page for page in sorted((ROOT / "docs").rglob("*.md")) if page.parent.name != "site"]
    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    for file in {*pages, *notebooks, *(target for page in pages for target in _linked(page))}:
        _stage(file)
    for page in pages:
        _point_folders_to_the_reference(STAGED / page.relative_to(ROOT), page)
    for table in (STAGED / "benchmarks").rglob("*.md"):  # linked, and part of no chapter
        table.write_text(f"---\norphan: true\n---\n\n{table.read_text(encoding='utf-8')}", encoding="utf-8")
    (STAGED / "models.md").write_text(_listing("Models", sorted((ROOT / "docs" / "models").glob("*.md"))))
    (STAGED / "notebooks.md").write_text(_listing("Notebooks", notebooks))
    (STAGED / "reference.rst").write_text(_reference())
    guides = [page for page in sorted((ROOT / "docs").glob("*.md")) if page.name != "README.md"]
    with (STAGED / "docs" / "README.md").open("a") as overview:
        overview.write("\n" + _tree([page.stem for page in guides], "hidden"))
    command = ["-m", "sphinx", "--fail-on-warning", "--keep-going", "-q", "-j", "2", "-b", "html"]
    sys.exit(subprocess.call([sys.executable, *command, str(STAGED), str(BUILT)]))


def _check_gallery() -> None:
    """Draw every picture quickly; exit unless these are the pictures that the page shows."""
    drawn, shown = ROOT / "build" / "gallery", ROOT / "docs" / "figures" / "gallery"
    shutil.rmtree(drawn, ignore_errors=True)
    script = ROOT / "docs" / "figures" / "gallery.py"
    quickly = {**os.environ, "SMOKE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.call([sys.executable, str(script), str(drawn)], env=quickly)
    if done:
        sys.exit(f"docs: {script.name} failed")
    names = [{picture.name for picture in folder.glob("*.png")} for folder in (drawn, shown)]
    names.append(set(re.findall(r"figures/gallery/(\S+?\.png)", (ROOT / "docs" / "gallery.md").read_text())))
    for other in names[1:]:
        if other != names[0]:
            sys.exit(f"docs: gallery.py, its folder and gallery.md differ: {sorted(other ^ names[0])}")


def _stage_mathjax() -> None:
    """Formulas are drawn without a network: one file, fonts included (SVG), which conf.py names."""
    spec = importlib.util.find_spec(MATHJAX)
    if spec is None or spec.origin is None:
        sys.exit(f"docs: expected the package {MATHJAX}, of the extra docs: pip install -e '.[docs]'")
    file = Path(spec.origin).parent / "static" / "mathjax" / "tex-svg.js"
    (STAGED / "_static").mkdir()
    shutil.copyfile(file, STAGED / "_static" / file.name)


def _stage(file: Path) -> None:
    place = STAGED / file.relative_to(ROOT)
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, place)


def _linked(page: Path) -> list[Path]:
    """Files of the repository that a page links to and that are no pages themselves."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    targets = [a or b for a, b in LINK.findall(text) if "://" not in (a or b)]
    files = {(page.parent / target).resolve() for target in targets}
    return [file for file in files if file.is_file()]


def _point_folders_to_the_reference(staged: Path, page: Path) -> None:
    """A folder has a page where the repository is browsed, and none here."""

    def replaced(link: re.Match[str]) -> str:
        target = link[1] or link[2]
        is_folder = "://" not in target and (page.parent / target).is_dir() and target not in ("models", "notebooks")
        return "](/reference.rst)" if is_folder else link[0]

    staged.write_text(LINK.sub(replaced, staged.read_text(encoding="utf-8")), encoding="utf-8")


def _listing(title: str, pages: list[Path]) -> str:
    return f"# {title}\n\n" + _tree([str(page.relative_to(ROOT).with_suffix("")) for page in pages], "maxdepth: 1")


def _tree(names: list[str], option: str) -> str:
    key, _, value = option.partition(": ")
    return "\n".join(["```{toctree}", f":{key}: {value}".rstrip(), "", *names, "```", ""])


def _reference() -> str:
    """Every public name, by the room that holds it."""
    parts = ["Reference", "=========", ""]
    by_room = dict(pyro_mnar._NAMES_OF_ROOMS)
    parts += _names("pyro_mnar", [name for names in by_room.values() for name in sorted(names)])
    for room in ROOMS:
        module = getattr(pyro_mnar, room)
        parts += _names(f"pyro_mnar.{room}", list(module.__all__))
    return "\n".join(parts)


def _names(module: str, names: list[str]) -> list[str]:
    names = [name for name in names if callable(getattr(sys.modules[module], name))]  # constants need no page
    lines = [module, "-" * len(module), "", f".. currentmodule:: {module}", ""]
    return [
        *lines,
        ".. autosummary::",
        "   :toctree: reference",
        "   :nosignatures:",
        "",
        *(f"   {n}" for n in names),
        "",
    ]


if __name__ == "__main__":
    main()
