"""What a file keeps of a fit: its parameters with their constraints, and the data beside them, whatever the format."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any, NamedTuple

import pandas as pd
import torch
from pyro.distributions import constraints
from torch import Tensor, nn

from pyro_mnar.infer.construction import arguments_of
from pyro_mnar.infer.parameters import unmirrored
from pyro_mnar.infer.session import Session
from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.schema import Schema
from pyro_mnar.training.particle_gain import ParticleGain
from pyro_mnar.training.recipes import pair_of

_EXTRA = "_extra_state"  # what a module keeps beside tensors, as torch names it
_CONSTRAINTS = {
    name: constraint
    for name in constraints.__all__
    if isinstance(constraint := getattr(constraints, name), constraints.Constraint)
}


class SavedFit(NamedTuple):
    """What a file holds, whatever its format.

    Attributes:
        schema: Of the training table.
        fits: The parameters of the fit and of its bootstrap, as :func:`parameters_of` gives them.
        constraints: Of the parameters in the store, by name, for each of these.
        history: As in the fit.
        restarts: As in the fit.
        dtype: Floating type of the parameters.
        told: What else the fit says of its training, by name.
    """

    schema: Schema
    fits: list[dict[str, dict[str, Tensor]]]
    constraints: list[dict[str, str]]
    history: pd.DataFrame
    restarts: pd.DataFrame
    dtype: torch.dtype
    told: dict[str, Any]

    @classmethod
    def of(cls, content: dict[str, Any], plain: dict[str, Any] | None) -> SavedFit:
        """Of what stands in a file: its tensors, and the data beside them, which the first format has among these."""
        if plain is None:  # format 1: values and constraints side by side, everything in one dictionary
            fits = [content, *content.get("bootstrap", ())]
            stores = [fit["store"] for fit in fits]
            return cls(
                Schema.from_dict(content["schema"]),
                [
                    {**fit, "store": {name: value for name, (value, _) in store.items()}}
                    for fit, store in zip(fits, stores, strict=True)
                ],
                [{name: constraint for name, (_, constraint) in store.items()} for store in stores],
                pd.DataFrame(content["history"]),
                pd.DataFrame(content["restarts"]),
                torch.get_default_dtype(),
                _told(content),
            )
        _check_tensors(content["fits"], plain["constraints"])
        return cls(
            Schema.from_json(plain["schema"]),
            content["fits"],
            plain["constraints"],
            pd.DataFrame(dict(plain["history"])),
            pd.DataFrame(dict(plain["restarts"])),
            _floating(plain["dtype"]),
            _told(plain),
        )

    def renewed(self, model: Any, guide: Any) -> SavedFit:
        """The same, with parameters that earlier versions wrote turned into those that modules have today.

        A module with ``renew_state(state, prefix)`` knows how.

        Args:
            model: One made as the saved one was.
            guide: Its guide.
        """
        fits = [
            {**fit, "model": _renewed(model, fit["model"]), "guide": _renewed(guide, fit["guide"])} for fit in self.fits
        ]
        return self._replace(fits=fits)

    def put(self, number: int, model: Any, guide: Any) -> dict[str, Any]:
        """Put the parameters of one of the fits into the modules; returns the state of the store."""
        parameters = self.fits[number]
        for module, state in ((model, parameters["model"]), (guide, parameters["guide"])):
            if isinstance(module, nn.Module):
                module.load_state_dict(state)
        return {
            "params": {name: value.requires_grad_() for name, value in parameters["store"].items()},
            "constraints": {name: _CONSTRAINTS[known] for name, known in self.constraints[number].items()},
        }


def _check_tensors(fits: Any, constraints_of: Any) -> None:
    """ValueError unless these are the parameters of a fit and of its bootstrap."""
    states = [state for fit in fits for state in (fit["model"], fit["guide"], fit["store"])]
    values = [value for state in states for name, value in state.items() if not name.endswith(_EXTRA)]
    if not states or not all(isinstance(value, Tensor) for value in values):
        raise ValueError("expected parameters, got something else")
    for fit, known in zip(fits, constraints_of, strict=True):
        if set(fit["store"]) != set(known) or not set(known.values()) <= set(_CONSTRAINTS):
            raise ValueError(f"expected a constraint of each of {sorted(fit['store'])!r}, got {known!r}")


def _floating(name: str) -> torch.dtype:
    dtype = getattr(torch, name, None)
    if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ValueError(f"dtype: expected a floating type, got {name!r}")
    return dtype


def _told(data: Mapping[str, Any]) -> dict[str, Any]:
    gain = data.get("particle_gain")
    particle_gain = None if gain is None else ParticleGain(**gain)
    interrupted, num_rows = data.get("interrupted", False), data.get("num_rows", 0)
    if not isinstance(interrupted, bool) or isinstance(num_rows, bool) or not isinstance(num_rows, int):
        raise ValueError(f"interrupted, num_rows: expected yes or no, and a number, got {interrupted!r}, {num_rows!r}")
    from_data = data.get("from_data", False)
    if not isinstance(from_data, bool):
        raise ValueError(f"from_data: expected yes or no, got {from_data!r}")
    return {
        "particle_gain": particle_gain,
        "interrupted": interrupted,
        "num_rows": num_rows,
        "from_data": from_data,
        "notes": dict(data.get("notes", {})),
    }


def saved_pair(recipe: dict[str, Any], saved: SavedFit) -> tuple[Any, Any]:
    """The pair of a recipe, in the type of the saved parameters; what no file holds is computed in that type too."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(saved.dtype)
    try:
        return pair_of(recipe, saved.schema)
    finally:
        torch.set_default_dtype(before)


def check_fits(path: str | PathLike[str], role: str, module: Any, saved: SavedFit, *, is_ours: bool) -> None:
    """Refuse a module that is not made as the saved one was, before anything is written into it.

    Where it is one of ours, made as the file says, whole numbers (positions of columns) are what the schema says.
    """
    made_for = (arguments_of(module) or {}).get("table")
    if isinstance(made_for, Schema) and made_for != saved.schema:
        raise ValueError(
            f"{path}: the {role} given was made for another table than the saved one: make it with the schema of the"
            " training table"
        )
    state = _state(module)
    own = {name: tuple(value.shape) for name, value in state.items()}
    for fit in saved.fits:
        for name, value in fit[role].items():
            made = state.get(name, value)
            is_other = is_ours and not value.is_floating_point() and not torch.equal(value.cpu(), made.cpu())
            if is_other or value.is_floating_point() != made.is_floating_point():
                raise ValueError(f"{path}: {role}, {name!r}: expected the numbers that the schema gives, got others")
        kept = {name: tuple(value.shape) for name, value in fit[role].items()}
        for name in (*kept, *own):
            if kept.get(name) != own.get(name):
                raise ValueError(
                    f"{path}: the {role} given does not fit: its parameter {name!r} has shape {own.get(name)}, the"
                    f" saved one's {kept.get(name)} (None: there is none): make it as the saved one was"
                )


def parameters_of(model: Any, guide: Any, store: dict[str, Any]) -> tuple[dict[str, dict[str, Tensor]], dict[str, str]]:
    """All that training changes, by who holds it, and the constraints of what the store holds.

    Raises:
        TypeError: If a parameter has a constraint that no file keeps.
    """
    stored = _stored(store, model, guide)
    tensors = {
        "model": _state(model),
        "guide": _state(guide),
        "store": {name: value for name, (value, _) in stored.items()},
    }
    return tensors, {name: constraint for name, (_, constraint) in stored.items()}


def call_once(guide: nn.Module, schema: Schema, dtype: torch.dtype) -> None:
    """Let a guide make its parameters, whose values do not matter."""
    x = torch.zeros(1, schema.num_columns, dtype=dtype)
    row = Batch.of(x, torch.ones_like(x, dtype=torch.bool), x.new_zeros(1, schema.num_auxiliaries))
    with Session(0).running(), torch.no_grad():
        guide(row)


def _state(module: Any) -> dict[str, Any]:
    return module.state_dict() if isinstance(module, nn.Module) else {}


def _renewed(module: Any, state: Mapping[str, Any]) -> dict[str, Any]:
    renewed = dict(state)
    for name, part in module.named_modules() if isinstance(module, nn.Module) else ():
        if (renew := getattr(part, "renew_state", None)) is not None:
            renew(renewed, f"{name}." if name else "")
    return renewed


def _stored(store: dict[str, Any], *modules: Any) -> dict[str, tuple[Tensor, str]]:
    """What ``pyro.param`` put into the store: unconstrained value and name of the constraint."""
    own = {}
    for name, value in unmirrored(store, *modules).items():
        constraint = store["constraints"][name]
        known = [key for key, other in _CONSTRAINTS.items() if other is constraint]
        if not known:
            raise TypeError(
                f"parameter {name!r}: expected a constraint among {sorted(_CONSTRAINTS)} to save, got {constraint}"
            )
        own[name] = (value.detach(), known[0])
    return own
