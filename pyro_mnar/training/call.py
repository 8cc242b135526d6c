"""What a call of :func:`~pyro_mnar.fit` says, as plain data: by it a checkpoint knows whose training it holds."""

from __future__ import annotations

import json
from typing import Any

from torch import Tensor, nn

from pyro_mnar.tables.fingerprint import fingerprint
from pyro_mnar.tables.table import Table
from pyro_mnar.training.fitted import Fit
from pyro_mnar.training.recipes import recipe_of


def settings_of(
    model: Any, guide: Any, table: Table, validation: Table | None, start: Fit | None, **options: Any
) -> dict[str, Any]:
    """All that numbers depend on, by name.

    Args:
        model: The model, before training.
        guide: Its guide.
        table: The rows to fit.
        validation: The rows that are held out, if there are any.
        start: The fit to go on from, if there is one.
        options: Numbers and words of the call.

    Raises:
        TypeError: If a column's name, a level or a code is of a type that a file cannot keep; names the column.
    """
    recipe = recipe_of(model, guide, table.schema)
    history = None if start is None else start.history.drop(columns="seconds", errors="ignore").to_json()
    settings = {
        **options,
        "schema": table.schema.to_json(),
        "dtype": str(table.dtype).removeprefix("torch."),
        "table's cells": fingerprint(table),
        "held-out cells": None if validation is None else fingerprint(validation),
        "start's history": history,
        "model": _described(model, recipe.get("model")),
        "guide": _described(guide, recipe.get("guide")),
    }
    return json.loads(json.dumps(settings))


def _described(module: Any, recipe: Any) -> dict[str, Any]:
    """Its name, the options of one of our own, and the shapes of its parameters."""
    state = module.state_dict() if isinstance(module, nn.Module) else {}
    return {
        "name": getattr(module, "__qualname__", type(module).__qualname__),
        "options": {} if recipe is None else recipe["options"],
        "shapes": {name: list(value.shape) for name, value in state.items() if isinstance(value, Tensor)},
    }
