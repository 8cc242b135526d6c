"""The page of the documentation that shows every case beside its answer; ``python -m bad_inputs.page`` writes it."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

from bad_inputs import arguments, files, frames, shell, sparse, systems
from bad_inputs.case import Case
from pyro_mnar import memory

PAGE = Path(__file__).parents[2] / "docs" / "bad_input.md"
MEMORY = 8 * 2.0**30  # that cases are shown for
SECTIONS = {
    "Frames and arrays": frames.CASES,
    "Sparse matrices and long frames": sparse.CASES,
    "Files": files.CASES,
    "Arguments": arguments.CASES,
    "Compared systems, and the words of a model": systems.CASES,
    "The command line": shell.CASES,
}
HEAD = """# Bad and extreme input

What is wrong is refused at once by a `ValueError` or `TypeError` (of files also an `OSError`) of one line, which says what was expected,
what came and where, and often what mends it. What is extreme but right is answered rightly: no infinity, no NaN in what is imputed.
Every line below is a test (`tests/bad_inputs`); `make bad-inputs` writes this page anew. Sizes are refused by the memory that is free, here 8 GiB.
"""


def message_of(error: Exception) -> str:
    """What an error says, without folders of this machine and addresses of this process."""
    return re.sub(r"[^\s'\"]*/tmp[^\s'\"]*/| at 0x[0-9a-f]+", "", str(error))


def answer_of(case: Case) -> str:
    """The answer as the page shows it."""
    if case.right:
        return f"right: {case.right}"
    try:
        case.call()
    except Exception as error:
        kind = "" if type(error).__name__ == "Refusal" else f"{type(error).__name__}: "
        return kind + message_of(error)
    raise AssertionError(f"{case.given}: expected an error")


def line_of(case: Case) -> str:
    """A line of the table."""
    return " | ".join(_cell(text) for text in (case.given, answer_of(case)))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def main() -> None:
    """Write the page."""
    memory.available_memory = lambda: MEMORY
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parts = [HEAD]
        for title, cases in SECTIONS.items():
            lines = "\n".join(f"| {line_of(case)} |" for case in cases)
            parts.append(f"## {title}\n\n| given | answer |\n|---|---|\n{lines}\n")
    PAGE.write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
