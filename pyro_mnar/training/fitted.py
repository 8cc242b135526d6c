"""What training leaves: a model and a guide with the schema of their table, and how they go to a file and back."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from os import PathLike
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
import pyro
import torch
from pyro.distributions import constraints
from pyro.infer.autoguide import AutoGuide
from torch import Tensor, nn

from pyro_mnar.infer.construction import arguments_of
from pyro_mnar.infer.pair import check_callable
from pyro_mnar.infer.parameters import mirrored_parameters, module_parameters
from pyro_mnar.infer.posterior import PosteriorDraws, flat_samples
from pyro_mnar.infer.session import Session
from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.native_frames import is_frame
from pyro_mnar.tables.schema import Schema
from pyro_mnar.tables.table import Table
from pyro_mnar.training import files
from pyro_mnar.training.particle_gain import ParticleGain
from pyro_mnar.training.recipes import pair_of, recipe_of

if TYPE_CHECKING:
    from pyro_mnar.summaries.fit_summary import FitSummary

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
        notes: Plain data to keep with the fit, as JSON has it: the command line notes how it read the table.
        num_rows: Rows that were trained on, 0 if nobody noted it.
        table: These rows, as long as the fit lives; not saved.
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
    notes: dict[str, Any] = field(default_factory=dict, repr=False)
    num_rows: int = field(default=0, repr=False)
    table: Table | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.schema, Schema):
            raise TypeError(f"schema: expected that of a table, table.schema, got {type(self.schema).__name__}")
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
        store = dict(pyro.get_param_store().get_state())
        return cls(model, guide, table.schema, store=store, num_rows=len(table), table=table)

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
        store = dict(pyro.get_param_store().get_state())
        return cls(model, guide, table.schema, store=store, num_rows=len(table), table=table)

    def __repr__(self) -> str:
        epochs = f"{len(self.history)} epochs" if len(self.history) else "no history"
        model, guide = (getattr(pair, "__name__", type(pair).__name__) for pair in (self.model, self.guide))
        fits = f", {len(self.bootstrap)} bootstrap fits" if self.bootstrap else ""
        note = ", interrupted" if self.interrupted else ""
        return f"Fit({model}, {guide}, {self.schema.num_columns} columns, {epochs}{fits}{note})"

    def __str__(self) -> str:
        from pyro_mnar.summaries.training_words import training_lines, training_warnings

        lines = [*training_lines(self), *(f"Warning: {warning}" for warning in training_warnings(self))]
        return "\n".join([*lines, "summary() says what being missing depends on, and how strongly"])

    def summary(self, table: Table | pd.DataFrame | None = None, *, seed: int = 0) -> FitSummary:
        """What the fit says, in words: how strongly being missing depends on what, noise, latents, bound, warnings.

        Takes seconds where intervals come from the curvature of the bound; they come from the bootstrap if there is
        one.  :func:`~pyro_mnar.summaries.summarise` says how all is measured.

        Args:
            table: The rows that were trained on, which a loaded fit does not have.
            seed: Same seed, same summary.

        Raises:
            ValueError: If the table is another than the fit's.
        """
        from pyro_mnar.summaries.fit_summary import summarise

        return summarise(self, table, seed=seed)

    def plot(self, ax: Any = None) -> Any:
        """The bound by epoch: :func:`pyro_mnar.plots.bound_curve`; returns the Axes."""
        from pyro_mnar.plots.training import bound_curve

        return bound_curve(self, ax)

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

    def encoded(self, table: Any) -> Table:
        """Rows in the units that the fit was trained in; ValueError for other tables, TypeError for other things."""
        if not isinstance(table, Table) and is_frame(table):
            return Table.from_frame(table, schema=self.schema, dtype=self.dtype)
        if not isinstance(table, Table):
            raise TypeError(f"table: expected a Table or a DataFrame, got {type(table).__name__}")
        if table.schema != self.schema or table.dtype != self.dtype:
            raise ValueError(
                "table: expected the training table's schema and type; make it with training_table.new_rows(frame)"
            )
        return table

    def save(self, path: str | PathLike[str]) -> None:
        """Write parameters, schema and history, and how our own models and guides are made.

        Tensors and plain data, which run no code when loaded; written whole or not at all.

        Raises:
            TypeError: If a column's name, a level or a code is of a type that a file cannot keep, which names the
                column, or a parameter made by ``pyro.param`` has a constraint with arguments of its own.
            OSError: If the folder cannot be written to; a file that was there is as it was.
        """
        tensors, constraints_of = zip(*map(_parameters, [self, *self.bootstrap]), strict=True)
        plain = {
            "recipe": recipe_of(self.model, self.guide, self.schema),
            "dtype": str(self.dtype).removeprefix("torch."),
            "constraints": list(constraints_of),
            "schema": self.schema.to_json(),
            "history": self.history.to_dict("list"),
            "restarts": self.restarts.to_dict("list"),
            "particle_gain": None if self.particle_gain is None else asdict(self.particle_gain),
            "interrupted": self.interrupted,
            "notes": self.notes,
            "num_rows": self.num_rows,
        }
        files.write(path, {"fits": list(tensors)}, plain)

    @classmethod
    def load(
        cls,
        path: str | PathLike[str],
        model: Callable[[Batch], Any] | None = None,
        guide: Callable[[Batch], Any] | None = None,
    ) -> Fit:
        """Read a file of :meth:`save`; runs no code of the file's.

        Args:
            path: The file.
            model: Where the file does not say how its model is made, since it is not one of ours: one made as the saved
                one was, whose parameters are overwritten, once everything has been found to fit.
            guide: Its guide, likewise; none after :meth:`from_posterior`, which had none.

        A guide that makes its parameters when it is first called, as Pyro's automatic ones do, is called on one row.

        Raises:
            ValueError: If the file is damaged, of a later format or none of :meth:`save`'s; if it does not say how its
                model or guide is made and none is given; if the one given has other parameters or was made for another
                table.
            FileNotFoundError: If it is not there.
        """
        if model is None and guide is not None:
            raise ValueError("model: expected one beside the guide, got a guide alone")
        content, plain = files.read(path)
        try:
            saved = _Saved.of(content, plain)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: cannot be read: {error}") from None
        if model is None:
            recipe = {"reason": "it is of an earlier format"} if plain is None else plain["recipe"]
            if "reason" in recipe:
                raise ValueError(
                    f"{path}: does not say how its model and guide are made ({recipe['reason']}): make them as the"
                    " saved ones were, and give them, Fit.load(path, model=..., guide=...)"
                )
            try:
                model, guide = _pair_of(recipe, saved)
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{path}: its model and guide cannot be made: {error}") from None
        guide = PosteriorDraws() if guide is None else guide
        for role, given in (("model", model), ("guide", guide)):
            if isinstance(given, PosteriorDraws):
                continue  # it has no shapes of its own
            if isinstance(given, nn.Module) and saved.fits[0][role] and not given.state_dict():
                _call_once(given, saved.schema, next(iter(saved.fits[0][role].values())).dtype)
            _check_fits(path, role, given, saved)

        trained: Any = model
        bootstrap = []
        for number in range(1, len(saved.fits)):
            pair = copied_modules(trained, guide)
            bootstrap.append(cls(*pair, saved.schema, store=saved.put(number, *pair)))
        store = saved.put(0, trained, guide)
        return cls(
            trained, guide, saved.schema, saved.history, store, saved.restarts, bootstrap=bootstrap, **saved.told
        )


class _Saved(NamedTuple):
    """What a file holds, whatever its format.

    Attributes:
        schema: Of the training table.
        fits: The parameters of the fit and of its bootstrap, as :func:`_parameters` gives them.
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
    def of(cls, content: dict[str, Any], plain: dict[str, Any] | None) -> _Saved:
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
        return cls(
            Schema.from_json(plain["schema"]),
            content["fits"],
            plain["constraints"],
            pd.DataFrame(plain["history"]),
            pd.DataFrame(plain["restarts"]),
            getattr(torch, plain["dtype"]),
            _told(plain),
        )

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


def _told(data: Mapping[str, Any]) -> dict[str, Any]:
    gain = data.get("particle_gain")
    particle_gain = None if gain is None else ParticleGain(**gain)
    return {
        "particle_gain": particle_gain,
        "interrupted": data.get("interrupted", False),
        "num_rows": data.get("num_rows", 0),
        "notes": dict(data.get("notes", {})),
    }


def _pair_of(recipe: dict[str, Any], saved: _Saved) -> tuple[Any, Any]:
    """The pair of a recipe, in the type of the saved parameters; what no file holds is computed in that type too."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(saved.dtype)
    try:
        return pair_of(recipe, saved.schema)
    finally:
        torch.set_default_dtype(before)


def _check_fits(path: str | PathLike[str], role: str, module: Any, saved: _Saved) -> None:
    """Refuse a module that is not made as the saved one was, before anything is written into it."""
    made_for = (arguments_of(module) or {}).get("table")
    if isinstance(made_for, Schema) and made_for != saved.schema:
        raise ValueError(
            f"{path}: the {role} given was made for another table than the saved one: make it with the schema of the"
            " training table"
        )
    own = {name: tuple(value.shape) for name, value in _state(module).items()}
    for fit in saved.fits:
        kept = {name: tuple(value.shape) for name, value in fit[role].items()}
        for name in (*kept, *own):
            if kept.get(name) != own.get(name):
                raise ValueError(
                    f"{path}: the {role} given does not fit: its parameter {name!r} has shape {own.get(name)}, the"
                    f" saved one's {kept.get(name)} (None: there is none): make it as the saved one was"
                )


def copied_modules(model: Any, guide: Any) -> tuple[Any, Any]:
    """The pair copied, modules that both hold still shared."""
    memo: dict[int, Any] = {}
    of_guide = guide._model if isinstance(guide, AutoGuide) else None
    copied = copy.deepcopy((model, guide), memo)
    if of_guide is not None:  # Pyro's guides lose their model, original and copy both, when they are copied
        guide._model, copied[1]._model = of_guide, copy.deepcopy(of_guide, memo)
    return copied


def _parameters(fit: Fit) -> tuple[dict[str, dict[str, Tensor]], dict[str, str]]:
    """All that training changes, by who holds it, and the constraints of what the store holds."""
    store = _unmirrored(fit.store, fit.model, fit.guide)
    tensors = {
        "model": _state(fit.model),
        "guide": _state(fit.guide),
        "store": {name: value for name, (value, _) in store.items()},
    }
    return tensors, {name: constraint for name, (_, constraint) in store.items()}


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
