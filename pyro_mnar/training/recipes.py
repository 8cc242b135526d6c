"""How our own models and guides are made anew from a file: a class's name and plain arguments.

A file can name these classes and no others, so reading one imports nothing and calls nothing that its writer chose.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple

from pyro_mnar.infer.construction import arguments_of
from pyro_mnar.infer.session import seeded
from pyro_mnar.tables.plain_values import from_json, to_json
from pyro_mnar.tables.schema import Schema

CLASSES = {
    "models": (
        "ANOVA",
        "GINA",
        "Ignorable",
        "LatentDependent",
        "NormalMixture",
        "NotMIWAE",
        "PartialVAE",
        "SelfMasking",
    ),
    "guides": ("ANOVAConditional", "FromModel", "MeanField", "PointNet", "ZeroImpute"),
    "mechanisms": ("Constant", "FullyConnected", "General", "LatentDependent", "SelfMasking", "TwoSided"),
    "graphs": ("MissingnessGraph",),
}
ACTIVATIONS = ("ELU", "GELU", "Identity", "LeakyReLU", "Mish", "ReLU", "SELU", "SiLU", "Sigmoid", "Softplus", "Tanh")


class Maker(NamedTuple):
    """A class that a file may name."""

    room: str
    name: str

    @classmethod
    def of(cls, given: Any) -> Maker | None:
        """Of a class, if it is on the list."""
        room = getattr(given, "__module__", "").split(".")
        name = getattr(given, "__qualname__", "")
        known = room[0] == "pyro_mnar" and len(room) > 1 and name in CLASSES.get(room[1], ())
        return cls(room[1], name) if known else None

    def found(self) -> Any:
        """The class; ValueError if it is not on the list."""
        if self.name not in CLASSES.get(self.room, ()):
            raise ValueError(f"expected a class of pyro_mnar.{{{', '.join(CLASSES)}}}, got {self.room}.{self.name}")
        return getattr(import_module(f"pyro_mnar.{self.room}"), self.name)


def recipe_of(model: Any, guide: Any, schema: Schema) -> dict[str, Any]:
    """How the pair is made, as JSON; or, under ``"reason"``, why a file cannot say."""
    try:
        return {
            "model": _described("model", model, schema, None),
            "guide": _described("guide", guide, schema, model),
        }
    except (TypeError, ValueError) as reason:
        return {"reason": str(reason)}


def pair_of(recipe: Mapping[str, Any], schema: Schema) -> tuple[Any, Any]:
    """The pair that a recipe describes, with parameters of its own.

    Raises:
        ValueError: If the recipe names anything but our own classes.
    """
    with seeded(0), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a constructor has to say was said when the fit was made
        model = _made(recipe["model"], schema, None)
        return model, _made(recipe["guide"], schema, model)


def _described(role: str, module: Any, schema: Schema, model: Any) -> dict[str, Any]:
    maker, arguments = Maker.of(type(module)), arguments_of(module)
    if maker is None or arguments is None:
        name = getattr(module, "__name__", type(module).__name__)
        raise ValueError(f"its {role} is {name}, which is none of pyro_mnar's own")
    options = {
        name: _plain(value, f"{role}'s {name}", schema, model) for name, value in arguments.items() if name != "seed"
    }
    return {"class": list(maker), "options": options}


def _plain(value: Any, what: str, schema: Schema, model: Any) -> Any:
    if value is model and model is not None:
        return {"the": "model"}
    if isinstance(value, Schema):
        if value != schema:
            raise ValueError(f"the {what} has another schema than the fit")
        return {"the": "schema"}
    if Maker.of(type(value)) == ("graphs", "MissingnessGraph"):
        return {"graph": value.to_dict()}
    cls, options = (value.func, value.keywords) if isinstance(value, partial) and not value.args else (value, {})
    if (maker := Maker.of(cls)) is not None and maker.room == "mechanisms":
        return {
            "class": list(maker),
            "options": {name: _plain(one, what, schema, model) for name, one in options.items()},
        }
    if isinstance(value, type) and value.__module__.startswith("torch.nn.") and value.__name__ in ACTIVATIONS:
        return {"activation": value.__name__}
    try:
        return {"value": to_json(value, f"the {what}")}
    except TypeError:
        raise ValueError(f"the {what} is {type(value).__name__} of your own") from None


def _made(description: Mapping[str, Any], schema: Schema, model: Any) -> Any:
    maker = Maker(*description["class"])
    return maker.found()(**{name: _value(one, schema, model) for name, one in description["options"].items()})


def _value(data: Mapping[str, Any], schema: Schema, model: Any) -> Any:
    if "the" in data:
        return {"schema": schema, "model": model}[data["the"]]
    if "graph" in data:
        return Maker("graphs", "MissingnessGraph").found().from_dict(data["graph"], schema)
    if "class" in data:
        found = Maker(*data["class"]).found()
        options = {name: _value(one, schema, model) for name, one in data["options"].items()}
        return partial(found, **options) if options else found
    if "activation" in data:
        if data["activation"] not in ACTIVATIONS:
            raise ValueError(f"expected an activation among {list(ACTIVATIONS)!r}, got {data['activation']!r}")
        return getattr(import_module("torch.nn"), data["activation"])
    return from_json(data["value"])
