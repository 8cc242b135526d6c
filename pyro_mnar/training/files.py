"""Files of fits and checkpoints: written whole or not at all, read without running code.

    pyro-mnar fit 3 <SHA-256 of the rest>
    <a torch archive: tensors by name, and everything else as one text of JSON>

The first line says what a file is, its format, and a digest.

Earlier versions wrote others, which are still read: in format 2 slopes of mechanisms were parameters themselves, and
format 1 was the archive alone, with plain data pickled in it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from pyro_mnar.messages import place_of
from pyro_mnar.tables.whole_files import write_atomically


class FileKind(NamedTuple):
    """What a file is.

    Attributes:
        title: The first words of its first line.
        writer: What writes such files, in messages.
        format: The number of the format that is written.
        oldest: The first whose files have such a line, and are read.
        cure: What to do with such a file, where another kind was expected.
    """

    title: str
    writer: str
    format: int
    oldest: int
    cure: str

    def head(self, digest: str) -> bytes:
        """The first line."""
        return f"pyro-mnar {self.title} {self.format} {digest}\n".encode()


FIT = FileKind("fit", "Fit.save", 3, 2, "Fit.load reads it")
CHECKPOINT = FileKind("checkpoint", "fit(..., checkpoint=...)", 1, 1, "fit(..., resume=True) goes on from it")
_KINDS = {kind.title: kind for kind in (FIT, CHECKPOINT)}
_ARCHIVE = b"PK\x03\x04"


def write(path: str | os.PathLike[str], tensors: Any, plain: dict[str, Any], kind: FileKind = FIT) -> None:
    """Write tensors and plain data, so that the file is the old one or the new one whenever the process ends.

    Raises:
        OSError: If the folder cannot be written to or the disk is full; the file that was there is as it was.
    """
    write_atomically(path, content_of(tensors, plain, kind))


def content_of(tensors: Any, plain: dict[str, Any], kind: FileKind) -> bytes:
    """A file's content."""
    archive = io.BytesIO()
    torch.save({"tensors": tensors, "plain": json.dumps(plain)}, archive)
    content = archive.getvalue()
    return kind.head(hashlib.sha256(content).hexdigest()) + content


def read(path: str | os.PathLike[str], kind: FileKind = FIT) -> tuple[Any, dict[str, Any] | None]:
    """Tensors and plain data of a file; of a fit's format 1, all that it holds, and None.

    Raises:
        ValueError: If it is a folder, another kind of file, of a later format, damaged, or holds what is no data.
        FileNotFoundError: If it is not there.
    """
    path = place_of("path", path)
    if path.is_dir():
        raise ValueError(f"{path}: expected a file that {kind.writer} wrote, got a folder")
    content = path.read_bytes()
    if content.startswith(_ARCHIVE) and kind is FIT:
        return _first_format(path, content), None
    head, _, archive = content.partition(b"\n")
    fields = head.split(b" ") if len(head) < 200 else []
    number = int(fields[2]) if len(fields) == 4 and fields[2].isdigit() else 0
    found = _KINDS.get(fields[1].decode("latin-1")) if number and fields[0] == b"pyro-mnar" else None
    if found is None or (found is kind and number < kind.oldest):
        raise ValueError(f"{path}: expected a file that {kind.writer} wrote, got something else")
    if found is not kind:
        raise ValueError(f"{path}: expected a file that {kind.writer} wrote, got a {found.title}: {found.cure}")
    if number > kind.format:
        raise ValueError(
            f"{path}: is of format {number}, this version of pyro-mnar reads formats up to {kind.format}: update it"
        )
    if hashlib.sha256(archive).hexdigest().encode() != fields[3]:
        raise ValueError(f"{path}: is damaged or cut short, its digest is another: take a copy, or fit again")
    data = _unpacked(path, archive)
    with held_by(path):
        return data["tensors"], dict(json.loads(data["plain"]))


@contextmanager
def held_by(path: str | os.PathLike[str], what: str = "cannot be read") -> Iterator[None]:
    """A ValueError that names the file, where it is whole and holds other than what is written into such files.

    Whoever made it so, wrote a digest of it too: of what it may hold, nothing is sure.
    """
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, ValueError) and str(error).startswith(f"{path}: "):
            raise
        said = " ".join(str(error).split())
        raise ValueError(f"{path}: {what}: {type(error).__name__}: {said}") from None


def _first_format(path: str | os.PathLike[str], content: bytes) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError):
        damaged = "the archive"
    if damaged is not None:
        raise ValueError(f"{path}: is damaged or cut short, in {damaged}: take a copy, or fit again")
    data = _unpacked(path, content)
    if not isinstance(data, dict) or data.get("format") != 1:
        raise ValueError(f"{path}: expected a file that Fit.save wrote, got another of torch's")
    return data


def _unpacked(path: str | os.PathLike[str], archive: bytes) -> Any:
    try:
        return torch.load(io.BytesIO(archive), weights_only=True, map_location="cpu")
    except pickle.UnpicklingError:
        raise ValueError(
            f"{path}: holds more than tensors and plain data; none of it was run, and none of it is read"
        ) from None
    except (RuntimeError, EOFError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from None
