"""The type checker of the import hook: beartype, with an int good for a float, as PEP 484 has it."""

from __future__ import annotations

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
