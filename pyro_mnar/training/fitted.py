"""What training leaves: a model and a guide with the schema of their table, and how they go to a file and back."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from os import PathLike
from typing import Any

import pandas as pd
import pyro
import torch
from pyro.distributions import constraints
from pyro.infer.autoguide import AutoGuide
from torch import Tensor, nn

from pyro_mnar.infer.pair import check_callable
from pyro_mnar.infer.parameters import mirrored_parameters, module_parameters
from pyro_mnar.infer.posterior import PosteriorDraws, flat_samples
from pyro_mnar.infer.session import Session
from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.schema import Schema
from pyro_mnar.tables.table import Table
from pyro_mnar.training.particle_gain import ParticleGain

_CONSTRAINTS = {
    name: constraint
    for name in constraints.__all__
    if isinstance(constraint := getattr(constraints, name), constraints.Constraint)
}


@dataclass
class Fit:
    """A trained model and guide, with what is needed to use them on tables.

    Attributes:
        model: The model, with its trained parameters.
        guide: The guide, with its trained parameters.
        schema: Columns and units of the training table.
        history: One row an epoch: ``epoch``, ``bound`` in nats per row (standardised units), ``held_out_bound`` if rows
            were held out, ``seconds``.  The columns are called ``objective`` where the number bounds nothing (β ≠ 1, U
            = mask).
        store: Parameters that models made with ``pyro.param`` or ``pyro.module`` keep in Pyro's store.
        restarts: After ``fit(restarts=R)``, one row an initialisation: ``member``, ``seed``, ``bound`` in nats per row
            (or ``objective``, as in ``history``), its ``standard_error``, and whether it was ``kept``.
        members: After ``fit(restarts=R)``, every initialisation as a fit of its own, in the order of ``restarts``; not
            saved.
        particle_gain: What more particles would add to the bound, as :func:`~pyro_mnar.fit` found after training.
        bootstrap: After ``fit(bootstrap=M)``, a fit to each of M sets of bootstrap weights of the rows, from which
            :func:`~pyro_mnar.impute` draws; their spread is the uncertainty of the parameters.
        interrupted: Whether Ctrl-C ended the training early.
    """

    model: Callable[[Batch], Any]
    guide: Callable[[Batch], Any]
    schema: Schema
    history: pd.DataFrame = field(default_factory=pd.DataFrame)
    store: dict[str, Any] = field(default_factory=lambda: {"params": {}, "constraints": {}}, repr=False)
    restarts: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False)
    members: list[Fit] = field(default_factory=list, repr=False)
    bootstrap: list[Fit] = field(default_factory=list, repr=False)
    particle_gain: ParticleGain | None = field(default=None, repr=False)
    interrupted: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        for role, one in (("model", self.model), ("guide", self.guide)):
            check_callable(one, role)
            made_for = getattr(one, "schema", None)
            if isinstance(made_for, Schema) and (difference := made_for.difference(self.schema)):
                raise ValueError(
                    f"{role} {type(one).__name__}: made for another table, {difference}: make it of this table, or fit"
                    " the table that it was made of"
                )

    @classmethod
    def from_svi(cls, model: Callable[[Batch], Any], guide: Callable[[Batch], Any], table: Table) -> Fit:
        """What plain ``SVI`` trained; call it where Pyro's parameter store still holds the parameters."""
        return cls(model, guide, table.schema, store=dict(pyro.get_param_store().get_state()))

    @classmethod
    def from_posterior(cls, model: Callable[[Batch], Any], samples: Mapping[str, Any], table: Table) -> Fit:
        """Samples of the posterior given a table, such as ``mcmc.get_samples()`` after ``mcmc.run(table.batch())``.

        ``fit.guide.samples`` holds them with NaN in place of the placeholders that NUTS drew for observed entries.

        Args:
            model: The model that was sampled; call this where Pyro's parameter store still holds its parameters.
            samples: Of each latent that all rows share, and of those of rows as far as there are some;
                ``(samples, ...)``.
            table: The whole table that was sampled.

        Raises:
            ValueError: If shapes or names are not the model's, or a latent that all rows share has no samples.
            TypeError: If ``samples`` is no mapping.
        """
        guide = PosteriorDraws.of(model, flat_samples(samples), table.batch())
        return cls(model, guide, table.schema, store=dict(pyro.get_param_store().get_state()))

    def __repr__(self) -> str:
        epochs = f"{len(self.history)} epochs" if len(self.history) else "no history"
        model, guide = (getattr(pair, "__name__", type(pair).__name__) for pair in (self.model, self.guide))
        fits = f", {len(self.bootstrap)} bootstrap fits" if self.bootstrap else ""
        note = ", interrupted" if self.interrupted else ""
        return f"Fit({model}, {guide}, {self.schema.num_columns} columns, {epochs}{fits}{note})"

    @property
    def epochs_done(self) -> int:
        """Number of epochs that were finished."""
        return len(self.history)

    def without_bootstrap(self) -> Fit:
        """The same fit without its bootstrap: imputations then hold its parameters fixed."""
        return replace(self, bootstrap=[])

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        parameters = [*module_parameters(self.model, self.guide), *self.store["params"].values()]
        return parameters[0].device if parameters else torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of the parameters."""
        parameters = [*module_parameters(self.model, self.guide), *self.store["params"].values()]
        return parameters[0].dtype if parameters else torch.get_default_dtype()

    def encoded(self, table: Table | pd.DataFrame) -> Table:
        """Rows in the units that the fit was trained in; ValueError for other tables, TypeError for other things."""
        if isinstance(table, pd.DataFrame):
            return Table.from_frame(table, schema=self.schema, dtype=self.dtype)
        if not isinstance(table, Table):
            raise TypeError(f"table: expected a Table or a DataFrame, got {type(table).__name__}")
        if table.schema != self.schema or table.dtype != self.dtype:
            raise ValueError(
                "table: expected the training table's schema and type; make it with training_table.new_rows(frame)"
            )
        return table

    def save(self, path: str | PathLike[str]) -> None:
        """Write parameters, schema and history: tensors and plain data, which run no code when loaded.

        Raises:
            TypeError: If a column's name or a level is no plain data (text, number, or a tuple of them), or a parameter
                made by ``pyro.param`` has a constraint with arguments of its own.
        """
        schema = self.schema.to_dict()
        _check_plain(schema)
        content = {
            "format": 1,
            **_parameters(self),
            "schema": schema,
            "history": self.history.to_dict("list"),
            "restarts": self.restarts.to_dict("list"),
            "particle_gain": None if self.particle_gain is None else asdict(self.particle_gain),
            "bootstrap": [_parameters(member) for member in self.bootstrap],
            "interrupted": self.interrupted,
        }
        torch.save(content, path)

    @classmethod
    def load(
        cls, path: str | PathLike[str], model: Callable[[Batch], Any], guide: Callable[[Batch], Any] | None = None
    ) -> Fit:
        """Read a file of :meth:`save` into a model and a guide made as the saved ones were.

        After :meth:`from_posterior` there is no guide to give.  A guide that makes its parameters when it is first
        called, as Pyro's automatic ones do, is called on one row.

        Raises:
            RuntimeError: If the parameters do not fit the model or the guide.
        """
        guide = PosteriorDraws() if guide is None else guide
        content = torch.load(path, weights_only=True, map_location="cpu")
        schema = Schema.from_dict(content["schema"])
        bootstrap = []
        for parameters in content.get("bootstrap", ()):
            pair = copied_modules(model, guide)
            bootstrap.append(cls(*pair, schema, store=_put(parameters, schema, *pair)))
        store = _put(content, schema, model, guide)
        history, restarts = pd.DataFrame(content["history"]), pd.DataFrame(content["restarts"])
        gain = content.get("particle_gain")
        particle_gain = None if gain is None else ParticleGain(**gain)
        told: dict[str, Any] = {"particle_gain": particle_gain, "interrupted": content.get("interrupted", False)}
        return cls(model, guide, schema, history, store, restarts, bootstrap=bootstrap, **told)


def copied_modules(model: Any, guide: Any) -> tuple[Any, Any]:
    """The pair copied, modules that both hold still shared."""
    memo: dict[int, Any] = {}
    of_guide = guide._model if isinstance(guide, AutoGuide) else None
    copied = copy.deepcopy((model, guide), memo)
    if of_guide is not None:  # Pyro's guides lose their model, original and copy both, when they are copied
        guide._model, copied[1]._model = of_guide, copy.deepcopy(of_guide, memo)
    return copied


def _parameters(fit: Fit) -> dict[str, Any]:
    """All that training changes, as tensors and plain data."""
    return {
        "model": _state(fit.model),
        "guide": _state(fit.guide),
        "store": _unmirrored(fit.store, fit.model, fit.guide),
    }


def _put(parameters: dict[str, Any], schema: Schema, model: Any, guide: Any) -> dict[str, Any]:
    """The inverse: into the modules; returns the state of the store."""
    for module, state in ((model, parameters["model"]), (guide, parameters["guide"])):
        if isinstance(module, nn.Module):
            if state and not module.state_dict():
                _call_once(module, schema, next(iter(state.values())).dtype)
            module.load_state_dict(state)
    store: dict[str, Any] = {"params": {}, "constraints": {}}
    for name, (value, constraint) in parameters["store"].items():
        store["params"][name] = value.requires_grad_()
        store["constraints"][name] = _CONSTRAINTS[constraint]
    return store


def _call_once(guide: nn.Module, schema: Schema, dtype: torch.dtype) -> None:
    """Let a guide make its parameters, whose values do not matter."""
    x = torch.zeros(1, schema.num_columns, dtype=dtype)
    row = Batch.of(x, torch.ones_like(x, dtype=torch.bool), x.new_zeros(1, schema.num_auxiliaries))
    with Session(0).running(), torch.no_grad():
        guide(row)


def _state(module: Any) -> dict[str, Any]:
    return module.state_dict() if isinstance(module, nn.Module) else {}


def _unmirrored(store: dict[str, Any], *modules: Any) -> dict[str, tuple[Tensor, str]]:
    """What ``pyro.param`` put into the store: unconstrained value and name of the constraint."""
    mirrored = {name for module in modules for name in mirrored_parameters(module)}
    own = {}
    for name, value in store["params"].items():
        if name.replace("$$$", ".") in mirrored:
            continue
        constraint = store["constraints"][name]
        known = [key for key, other in _CONSTRAINTS.items() if other is constraint]
        if not known:
            raise TypeError(
                f"parameter {name!r}: expected a constraint among {sorted(_CONSTRAINTS)} to save, got {constraint}"
            )
        own[name] = (value.detach(), known[0])
    return own


def _check_plain(schema: dict[str, Any]) -> None:
    """A file that runs no code when it is read holds no objects."""
    coded = [{"name": column, "levels": codes} for _, column, codes in schema["codes"]]
    for entry in (*schema["columns"], *schema["auxiliaries"], *coded):
        parts = [entry["name"], *entry.get("levels", ())]
        for part in parts:
            for value in part if isinstance(part, tuple) else (part,):
                if type(value) not in (str, int, float, bool, type(None)):
                    raise TypeError(
                        f"column {entry['name']!r}: expected names and levels of plain text or numbers to save, got"
                        f" {value!r}"
                    )
