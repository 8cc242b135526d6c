"""A fit's file: a line that says what it is, a digest, tensors; written whole or not at all, read without running code.

    pyro-mnar fit 2 <SHA-256 of the rest>
    <a torch archive: tensors by name, and everything else as one text of JSON>

Format 1, of earlier versions, was the archive alone, with plain data pickled in it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

FORMAT = 2
_TITLE = b"pyro-mnar fit "
_ARCHIVE = b"PK\x03\x04"


def write(path: str | os.PathLike[str], tensors: dict[str, Any], plain: dict[str, Any]) -> None:
    """Write tensors and plain data, so that the file is the old one or the new one whenever the process ends.

    Raises:
        OSError: If the folder cannot be written to or the disk is full; the file that was there is as it was.
    """
    archive = io.BytesIO()
    torch.save({"tensors": tensors, "plain": json.dumps(plain)}, archive)
    content = archive.getvalue()
    head = _TITLE + f"{FORMAT} {hashlib.sha256(content).hexdigest()}\n".encode()
    write_atomically(path, head + content)


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write beside the file, force it to disk, and put it in the file's place in one step."""
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(beside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    if os.name == "posix":  # elsewhere a folder cannot be opened; the name is then as safe as the system makes it
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Tensors and plain data of a file; of format 1, all that it holds, and None.

    Raises:
        ValueError: If it is a folder, no file of a fit, of a later format, damaged, or holds what is no data.
        FileNotFoundError: If it is not there.
    """
    if Path(path).is_dir():
        raise ValueError(f"{path}: expected a file that Fit.save wrote, got a folder")
    content = Path(path).read_bytes()
    if content.startswith(_ARCHIVE):
        return _first_format(path, content), None
    head, _, archive = content.partition(b"\n")
    fields = head.split(b" ")
    number = int(fields[2]) if len(fields) == 4 and fields[2].isdigit() else 0
    if not head.startswith(_TITLE) or number < FORMAT:
        raise ValueError(f"{path}: expected a file that Fit.save wrote, got something else")
    if number > FORMAT:
        raise ValueError(
            f"{path}: is of format {number}, this version of pyro-mnar reads formats up to {FORMAT}: update it"
        )
    if hashlib.sha256(archive).hexdigest().encode() != fields[3]:
        raise ValueError(f"{path}: is damaged or cut short, its digest is another: take a copy, or fit again")
    data = _unpacked(path, archive)
    return data["tensors"], json.loads(data["plain"])


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
