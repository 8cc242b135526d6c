"""Readers of files under atheris, which changes bytes so that they reach other branches: ``python -m fuzz.covered``.

    python -m fuzz.covered --minutes 30               all readers in turn
    python -m fuzz.covered --minutes 30 --reader csv  one, which is how the others are started

Each reader is a process of its own, since libFuzzer ends the one that it runs in.  Whatever reaches new branches is kept
in ``build/fuzz/covered``, and what is found in ``build/fuzz/found``.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["pyro_mnar"], enable_loader_override=False):
    from fuzz import files
    from fuzz.oracle import TRIED, judged

from pyro_mnar import Table
from pyro_mnar.training import files as fit_files

KEPT = Path(__file__).parents[2] / "build" / "fuzz"
LONGEST = 2000  # bytes
SEPARATORS: list[Any] = [None, ",", ";", "tab"]


def csv(content: bytes) -> None:
    """The first byte says how it is to be read."""
    how, text = content[:1] or b"\0", content[1:]
    given: dict[str, Any] = {
        "sep": SEPARATORS[how[0] % 4],
        "encoding": "utf-8" if how[0] & 4 else None,
        "decimal": "," if how[0] & 8 else ".",
        "thousands": "'" if how[0] & 16 else None,
        "na": ["NA"] if how[0] & 32 else [],
    }
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "t.csv"
        path.write_bytes(text)
        judged(lambda: Table.from_csv(path, auxiliary=[], **given))


def fit(content: bytes) -> None:
    """The plain data of a fit, whose tensors and digest are right; or the whole file."""
    if content[:1] == b"{":
        tensors, _ = files.SAVED()
        archive = fit_files.content_of(tensors, {}, fit_files.FIT)
        content = with_text(archive, content)
    files.check_fit(content)


def with_text(whole: bytes, text: bytes) -> bytes:
    """A file with this text in place of its JSON."""
    import hashlib
    import io

    import torch

    archive = io.BytesIO(whole.partition(b"\n")[2])
    data = torch.load(archive, weights_only=True)
    written = io.BytesIO()
    torch.save({**data, "plain": text.decode("utf-8", "replace")}, written)
    return fit_files.FIT.head(hashlib.sha256(written.getvalue()).hexdigest()) + written.getvalue()


def seeds() -> dict[str, list[bytes]]:
    """Right files to begin with."""
    import json

    tensors, plain = files.SAVED()
    return {
        "csv": [b"\0" + files.CSV.encode(), b"\0" + b'a;b\n"x;y";1\n;"2"\n', b"\0a,b\n2020-01-31,$3\n,4%\n"],
        "json": [json.dumps({"na": ["NA"], "columns": {"a": {"kind": "count"}, "b": {"role": "carry"}}}).encode()],
        "toml": [b'na = ["NA"]\n[columns.a]\nkind = "ordinal"\nlevels = [1, 2, 3]\n[columns.b]\nrole = "carry"\n'],
        "graph": [json.dumps(files.GRAPH).encode(), b'{"preset": "self-masking"}'],
        "fit": [json.dumps(plain).encode(), fit_files.content_of(tensors, plain, fit_files.FIT)],
    }


READERS: dict[str, Callable[[bytes], None]] = {
    "csv": csv,
    "json": lambda content: files.check_schema(content, "json"),
    "toml": lambda content: files.check_schema(content, "toml"),
    "graph": files.check_graph_text,
    "fit": fit,
}


def run(name: str, seconds: int) -> None:
    """Follow the branches of one reader; ends the process."""
    corpus, found = KEPT / "covered" / name, KEPT / "found"
    for folder in (corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(seeds()[name]):
        (corpus / f"seed{number}").write_bytes(content)
    longest = max(LONGEST, *(len(content) for content in seeds()[name]))

    def one(content: bytes) -> None:
        READERS[name](content)
        if sum(TRIED.values()) % 500 == 0:
            (KEPT / f"{name}.count").write_text(str(dict(TRIED)))

    options = [f"-max_total_time={seconds}", f"-max_len={longest}", f"-artifact_prefix={found}/{name}-", "-seed=1"]
    atheris.Setup(
        [sys.argv[0], *options, "-timeout=60", "-rss_limit_mb=6000", "-print_final_stats=1", str(corpus)], one
    )
    atheris.Fuzz()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz.covered")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--reader", choices=READERS)
    given = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    if given.reader:
        run(given.reader, round(60 * given.minutes))
    share = str(given.minutes / len(READERS))
    command = [sys.executable, "-m", "fuzz.covered", "--minutes", share, "--reader"]
    statuses = [subprocess.call([*command, name]) for name in READERS]  # all of them, whatever one finds
    return int(any(statuses))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
