"""Files that are written whole or not at all: after a kill or on a full disk the old one is there."""

from __future__ import annotations

import contextlib
import glob
import os
from pathlib import Path

from pyro_mnar.messages import path_of


def write_atomically(path: str | os.PathLike[str], content: bytes, previous: Path | None = None) -> None:
    """Write beside the file, force it to disk, and put it in the file's place in one step.

    Args:
        path: The file.
        content: What it is to hold.
        previous: Where to keep the file that was there, if it is to be kept.

    Raises:
        OSError: If it cannot be written; names the file.
    """
    path = path_of("path", path)
    beside = path.with_name(_unfinished(path.name, os.getpid()))
    try:
        write_through(beside, content)
        if previous is not None and path.exists():
            os.replace(path, previous)
        os.replace(beside, path)
    except OSError as error:
        raise OSError(error.errno, f"cannot write {path}: {error.strerror}") from None
    finally:
        with contextlib.suppress(OSError):  # of a folder that cannot be written to, the error above tells
            beside.unlink(missing_ok=True)
    settle(path.parent)


def check_writable(path: Path) -> None:
    """Before long work: see whether a file could be written there.

    Raises:
        OSError: If not; names the file.
    """
    beside = path.with_name(_unfinished(path.name, os.getpid()))
    try:
        beside.touch()
        beside.unlink()
    except OSError as error:
        raise OSError(error.errno, f"cannot write {path}: {error.strerror}") from None


def write_through(path: Path, content: bytes) -> None:
    """Write a file as far as the disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def settle(folder: Path) -> None:
    """Let renamings reach the disk, where system and file system let a folder be synchronised."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    with contextlib.suppress(OSError):
        os.fsync(descriptor)
    os.close(descriptor)


def remove_unfinished(path: Path) -> None:
    """Remove what processes that were killed in the middle of a write have left beside a file."""
    for left in path.parent.glob(_unfinished(glob.escape(path.name), "[0-9]*")):
        left.unlink(missing_ok=True)


def _unfinished(name: str, process: int | str) -> str:
    return f".{name}.{process}.part"
