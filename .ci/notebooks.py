"""Notebooks are pairs: NAME.py (py:percent) is the source, NAME.ipynb is made from it and committed executed.

python .ci/notebooks.py make [NAME ...]     write the ipynb anew, executed
python .ci/notebooks.py check [NAME ...]    do the pairs agree, and do the sources run with SMOKE=1?
"""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "notebooks"
# No progress bars (their speeds differ from run to run), and no notices that come with an import: ArviZ 0.2x
# gives one a day, tqdm one in every kernel without ipywidgets.
QUIET = {"TQDM_DISABLE": "1", "PYTHONWARNINGS": "ignore::FutureWarning:arviz,ignore:IProgress not found"}
# Bytes: people look at a notebook before they run it, and the repository keeps every version.
LARGEST = 300_000


def main() -> None:
    """Dispatch; exit with a message when something is wrong."""
    command, *names = sys.argv[1:] or ["", ""]
    sources = [FOLDER / f"{name}.py" for name in names] if names else sorted(FOLDER.glob("*.py"))
    if command == "make":
        for source in sources:
            make(source)
    elif command == "check":
        problems = [problem for source in sources for problem in check(source)]
        problems += [f"{ipynb.name}: has no source" for ipynb in FOLDER.glob("*.ipynb") if not _source(ipynb).exists()]
        if problems:
            sys.exit("notebooks: " + "\nnotebooks: ".join(problems) + "\n`make notebooks` makes them anew")
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # each waits for a process of its own, one thread each
            list(pool.map(smoke, sources))
    else:
        sys.exit(__doc__)
    print(f"notebooks: {len(sources)} source{'' if len(sources) == 1 else 's'}, {command} done")


def make(source: Path) -> None:
    """Execute the source in its folder and write the ipynb, free of ids, times and versions that change."""
    environment = {**os.environ, **QUIET}
    for name in ("SMOKE", "MPLBACKEND"):  # a committed notebook is whole and shows its pictures
        environment.pop(name, None)
    notebook = jupytext.read(source, fmt="py:percent")
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=None,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(FOLDER)}},
    ).execute(env=environment)
    notebook.metadata["language_info"].pop("version", None)
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
    text = nbformat.writes(notebook)
    for line in text.splitlines():
        if str(ROOT) in line or str(Path.home()) + os.sep in line:
            sys.exit(f"notebooks: {source.name}: its output shows a path of this machine: {line.strip()}")
    _ipynb(source).write_text(text + "\n", encoding="utf-8")
    print(f"notebooks: {_ipynb(source).relative_to(ROOT)}, {len(text) // 1000} kB")


def check(source: Path) -> list[str]:
    """What is wrong with the pair, one line each."""
    ipynb = _ipynb(source)
    if not ipynb.exists():
        return [f"{ipynb.name}: missing"]
    problems = []
    made = nbformat.read(ipynb, as_version=4)
    if _cells(made) != _cells(jupytext.read(source, fmt="py:percent")):
        problems.append(f"{ipynb.name}: its cells are not those of {source.name}")
    code = [cell for cell in made.cells if cell.cell_type == "code" and cell.source.strip()]
    if any(cell.execution_count is None for cell in code):
        problems.append(f"{ipynb.name}: not executed")
    if any(output.output_type == "error" for cell in code for output in cell.outputs):
        problems.append(f"{ipynb.name}: a cell ended in an error")
    if ipynb.stat().st_size > LARGEST:
        problems.append(f"{ipynb.name}: {ipynb.stat().st_size} bytes, at most {LARGEST} allowed")
    return problems


def smoke(source: Path) -> None:
    """Run the source as a plain script, loops shortened by SMOKE=1."""
    started = time.monotonic()
    environment = {**os.environ, **QUIET, "SMOKE": "1", "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, source.name],
        cwd=FOLDER,
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}\nnotebooks: {source.name} failed as a script")
    print(f"notebooks: {source.relative_to(ROOT)} ran in {time.monotonic() - started:.0f} s")


def _cells(notebook: NotebookNode) -> list[tuple[str, str]]:
    return [(cell.cell_type, cell.source.strip()) for cell in notebook.cells]


def _ipynb(source: Path) -> Path:
    return source.with_suffix(".ipynb")


def _source(ipynb: Path) -> Path:
    return ipynb.with_suffix(".py")


if __name__ == "__main__":
    main()
