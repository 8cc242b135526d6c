"""Build the sdist, the wheel from the sdist, install the wheel elsewhere and import every module of it there.

Two mistakes show up only here: a package that setup.cfg does not list, and code that needs the checkout
around it. The editable install would hide both, so the importing interpreter runs without site (``-S``: no
.pth files, hence no finder that leads back to the checkout) and in a folder outside it; the dependencies come
from this environment.
"""

import json
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {
    "pyro_mnar": ROOT / "pyro_mnar",
    "pyro_mnar.models": ROOT / "models",
    "pyro_mnar.guides": ROOT / "guides",
}

IMPORT_ALL = """
import importlib, json, pkgutil, sys
target, dependencies = sys.argv[1:]
sys.path[:] = [target, *(p for p in sys.path if p), dependencies]
import pyro_mnar, pyro_mnar.models, pyro_mnar.guides
names = ["pyro_mnar", *(module.name for module in pkgutil.walk_packages(pyro_mnar.__path__, "pyro_mnar."))]
files = {name: importlib.import_module(name).__file__ for name in names if not name.endswith("__main__")}
from importlib.metadata import distribution
scripts = distribution("pyro-mnar").entry_points.select(group="console_scripts")
print(json.dumps({"files": files, "scripts": {s.name: callable(s.load()) for s in scripts}}))
"""


def main() -> None:
    """Build, install, import, compare."""
    with tempfile.TemporaryDirectory() as folder:
        built, target, elsewhere = (Path(folder).resolve() / name for name in ("built", "target", "elsewhere"))
        elsewhere.mkdir()
        _run("-m", "build", "--no-isolation", "--outdir", built, ROOT, cwd=elsewhere)
        (wheel,) = built.glob("*.whl")
        _run("-m", "pip", "--quiet", "install", "--no-deps", "--target", target, wheel, cwd=elsewhere)
        found = _run("-S", "-W", "ignore", "-c", IMPORT_ALL, target, sysconfig.get_path("purelib"), cwd=elsewhere)
        _compare(target, **json.loads(found.splitlines()[-1]))


def _compare(target: Path, files: dict[str, str], scripts: dict[str, bool]) -> None:
    strays = [f"{name} from {file}" for name, file in files.items() if not Path(file).is_relative_to(target)]
    absent = sorted(_modules_of_checkout() - set(files))
    if strays:
        sys.exit("wheel check: imported from outside the wheel: " + ", ".join(strays))
    if absent:
        sys.exit("wheel check: in the checkout, not in the wheel (list the package in setup.cfg): " + ", ".join(absent))
    if not (target / "pyro_mnar" / "py.typed").is_file():
        sys.exit("wheel check: py.typed is not in the wheel")
    if scripts != {"pyro-mnar": True}:
        sys.exit(f"wheel check: expected the console script pyro-mnar, got {scripts}")
    print(f"wheel check: {len(files)} modules import from the wheel, outside the checkout")


def _modules_of_checkout() -> set[str]:
    names = set()
    for package, folder in FOLDERS.items():
        for file in folder.rglob("*.py"):
            parts = file.relative_to(folder).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            names.add(".".join((package, *parts)))
    return {name for name in names if not name.endswith("__main__")}


def _run(*arguments: object, cwd: Path) -> str:
    done = subprocess.run([sys.executable, *map(str, arguments)], cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"wheel check: {' '.join(map(str, arguments[:3]))[:80]} failed\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
