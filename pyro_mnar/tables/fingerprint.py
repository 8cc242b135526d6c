"""A digest of all that training sees of a table, by which a checkpoint knows its own table again."""

from __future__ import annotations

import hashlib
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_mnar.tables.survey import design_of, has_design
from pyro_mnar.tables.table import Table


def fingerprint(table: Table) -> str:
    """SHA-256 over the encoded cells, their bounds and weights, U, and how rows were sampled; not over the schema."""
    digest = hashlib.sha256()
    _add(digest, table.storage.rows)
    if has_design(table.schema):
        design = design_of(table.frame, table.schema)
        _add(digest, (design.unit, design.stratum))
    return digest.hexdigest()


def _add(digest: Any, value: Any) -> None:
    """Tensors and arrays with type and shape, whatever holds them."""
    if isinstance(value, Tensor):
        digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    elif isinstance(value, np.ndarray):
        _add(digest, torch.from_numpy(np.ascontiguousarray(value)))
    elif is_dataclass(value):
        for one in fields(value):
            digest.update(one.name.encode())
            _add(digest, getattr(value, one.name))
    elif isinstance(value, tuple):
        for part in value:
            _add(digest, part)
    else:
        digest.update(repr(value).encode())
