"""A folder of completed tables, written as a whole: after a crash, a full disk or a kill nobody takes it for complete.

All files are written beside their places first and then put there by renaming; ``manifest.json`` says which files are
of one run, and that all of them are there.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyro_mnar.tables.whole_files import settle, write_atomically, write_through

MANIFEST = "manifest.json"
UNFINISHED = ".unfinished"  # where files are until all are written


class OutputFolder:
    """A folder for the files of one run.

    Args:
        path: The folder; made if absent.
        names: What the run will write.
        data: The file that is completed, which is not to be overwritten.

    Raises:
        ValueError: If a file that an earlier run did not write has one of the names, or draws of another run would stay
            beside the new ones.
        OSError: If nothing can be written there.
    """

    def __init__(self, path: Path, names: Sequence[str], data: Path) -> None:
        self.path, self.names = path, list(names)
        path.mkdir(parents=True, exist_ok=True)
        known = self._known()
        for name in (*names, MANIFEST):
            place = path / name
            if place.is_symlink():
                raise ValueError(
                    f"--out: {place} is a link, which is not followed: remove it, or choose another folder"
                )
            if not place.exists() or (name == MANIFEST and known is not None):
                continue
            if place.samefile(data):
                raise ValueError(f"--out: {place} is the file to complete: choose another folder")
            if known is None or name not in known:
                raise ValueError(f"--out: {place} is there, and not of an earlier run: choose another folder")
            if _digest(place) not in known[name]:
                raise ValueError(f"--out: {place} was changed after it was written: move it, or choose another folder")
        left = {place.name for place in path.glob("draw_*.*") if re.fullmatch(r"draw_\d+(\.\w+)+", place.name)} - set(
            names
        )
        if left:
            raise ValueError(f"--out: {path} holds {min(left)} of another run, which would stay beside these draws")
        with self._unfinished():
            pass  # fails here where nothing can be written, and not after the training

    def write(self, files: Iterator[tuple[str, bytes]], about: dict[str, Any]) -> None:
        """Write all files, or change nothing.

        Args:
            files: Name and bytes of each.
            about: What the manifest says beside the files.

        Raises:
            OSError: If the disk is full or read-only; files of an earlier run are as they were.
        """
        with self._unfinished() as folder:
            digests: dict[str, str] = {}
            for name, content in files:
                write_through(folder / name, content)
                digests[name] = hashlib.sha256(content).hexdigest()
            # Between the first renaming and the last the files are of two runs: the manifest says so.
            before = self._known() or {}
            between = {name: sorted({digest, *before.get(name, ())}) for name, digest in digests.items()}
            self._say(folder, {**about, "complete": False, "files": between})
            for name in digests:
                os.replace(folder / name, self.path / name)
            settle(self.path)
            self._say(folder, {**about, "complete": True, "files": {name: [d] for name, d in digests.items()}})

    def _say(self, folder: Path, manifest: dict[str, Any]) -> None:
        write_through(folder / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
        os.replace(folder / MANIFEST, self.path / MANIFEST)
        settle(self.path)

    def _known(self) -> dict[str, list[str]] | None:
        """Digests that files of earlier runs may have; None if there was no run."""
        try:
            files = json.loads((self.path / MANIFEST).read_text(encoding="utf-8"))["files"]
            return {str(name): list(digests) for name, digests in files.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    @contextmanager
    def _unfinished(self) -> Iterator[Path]:
        """A new folder for files on their way; what a killed run left there is removed."""
        folder = self.path / UNFINISHED
        if folder.is_symlink():
            raise ValueError(f"--out: {folder} is a link, which is not followed: remove it")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def write_new(path: Path, content: bytes) -> None:
    """Write a file that is not there yet, as a whole or not at all.

    Raises:
        ValueError: If there is something of that name.
    """
    if path.is_symlink() or path.exists():
        raise ValueError(f"{path}: expected a file that is not there yet")
    write_atomically(path, content)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
