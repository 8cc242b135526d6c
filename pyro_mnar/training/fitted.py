"""What training leaves: a model and a guide with the schema of their table, and how they go to a file and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from pyro_mnar.devices import device_of
from pyro_mnar.infer.arguments import check_callable
from pyro_mnar.infer.parameters import IN_NETWORK, NetworksAsStored, module_parameters
from pyro_mnar.infer.posterior import PosteriorDraws, flat_samples
from pyro_mnar.infer.session import Session, callers_store, locked
from pyro_mnar.messages import check_is
from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.native_frames import is_frame
from pyro_mnar.tables.schema import Schema
from pyro_mnar.tables.table import Table
from pyro_mnar.training import files
from pyro_mnar.training.copies import copied_modules, copied_store
from pyro_mnar.training.particle_gain import ParticleGain
from pyro_mnar.training.recipes import recipe_of
from pyro_mnar.training.saved import SavedFit, call_once, check_fits, parameters_of, saved_pair

if TYPE_CHECKING:
    from pyro_mnar.summaries.fit_summary import FitSummary


def check_fit(value: Any, name: str = "fit") -> None:
    """TypeError unless it is a trained model and guide."""
    if not isinstance(value, Fit):
        is_path = isinstance(value, (str, PathLike))
        cure = ": Fit.load reads a file" if is_path else ", as fit(model, guide, table) gives"
        raise TypeError(f"{name}: expected a Fit{cure}, got {type(value).__name__}")


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
        from_data: Whether training started from the data and stayed near; not so of restarts and where there is a
            bootstrap, which train in full.
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
    from_data: bool = field(default=False, repr=False)
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
        check_is("table", table, Table)
        return cls(model, guide, table.schema, store=callers_store(), num_rows=len(table), table=table)

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
        check_callable(model, "model")
        check_is("table", table, Table)
        guide = PosteriorDraws.of(model, flat_samples(samples), table.batch())
        return cls(model, guide, table.schema, store=callers_store(), num_rows=len(table), table=table)

    def __getstate__(self) -> dict[str, Any]:
        """For pickling, copies made while no thread runs a model: Pyro hangs weak references on parameters in use."""
        with locked():
            model, guide = copied_modules(self.model, self.guide)
            return {**self.__dict__, "model": model, "guide": guide, "store": copied_store(self.store, model, guide)}

    def __copy__(self) -> Fit:
        return replace(self)

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

    def summary(
        self, table: Table | pd.DataFrame | None = None, *, ignorable: bool = True, seed: int = 0
    ) -> FitSummary:
        """What the fit says, in words: how strongly being missing depends on what, how far that moves what is imputed,
        and on what evidence; noise, latents, bound, warnings.

        Takes seconds where intervals come from the curvature of the bound; they come from the bootstrap if there is
        one.  :func:`~pyro_mnar.summaries.summarise` says how all is measured.

        Args:
            table: The rows that were trained on, which a loaded fit does not have.
            ignorable: Whether to fit the model without its mechanism too, to compare with: as long as a fit from the
                data took, else about a third of one; nothing where all gaps are taken for ignorable.
            seed: Same seed, same summary.

        Raises:
            ValueError: If the table is another than the fit's.
        """
        from pyro_mnar.summaries.fit_summary import summarise

        return summarise(self, table, with_ignorable=ignorable, seed=seed)

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

    def on(self, device: torch.device | str | None) -> Fit:
        """The same fit with its parameters on a device: itself where they are there, or with None, else a copy.

        Tensors that a function keeps for itself stay where they are.

        Raises:
            ValueError: If there is no such device on this machine.
        """
        if device is None:
            return self
        device = torch.empty(0, device=device_of(device)).device  # 'cuda' is the current one of them
        if self.device == device:
            return self
        pair = copied_modules(self.model, self.guide)
        for module in pair:
            if isinstance(module, nn.Module):
                module.to(device)
        store = copied_store(self.store, self.model, self.guide, device=device)
        bootstrap = [one.on(device) for one in self.bootstrap]
        return replace(self, model=pair[0], guide=pair[1], store=store, bootstrap=bootstrap)

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of the parameters."""
        parameters = [*module_parameters(self.model, self.guide), *self.store["params"].values()]
        return parameters[0].dtype if parameters else torch.get_default_dtype()

    def encoded(self, table: Any) -> Table:
        """Rows in the units that the fit was trained in; ValueError for other tables, TypeError for other things.

        ValueError too where the fit's functions use networks that are not the trained ones.
        """
        if not isinstance(table, Table) and is_frame(table):
            table = Table.from_frame(table, schema=self.schema, dtype=self.dtype)
        if not isinstance(table, Table):
            raise TypeError(f"table: expected a Table or a DataFrame, got {type(table).__name__}")
        if table.schema != self.schema or table.dtype != self.dtype:
            raise ValueError(
                "table: expected the training table's schema and type; make it with training_table.new_rows(frame)"
            )
        self._check_networks(table)
        return table

    def _check_networks(self, table: Table) -> None:
        pair = (self.model, self.guide)
        functions = [one for one in pair if not isinstance(one, nn.Module)]  # modules bring their networks along
        if functions and len(table) and any(IN_NETWORK in name for name in self.store["params"]):
            row = table.take(np.arange(1)).batch(self.device)
            with Session(0, self.device, self.store).running(), torch.no_grad(), NetworksAsStored(*pair):
                for one in functions:
                    one(row)

    def save(self, path: str | PathLike[str]) -> None:
        """Write parameters, schema and history, and how our own models and guides are made.

        Tensors and plain data, which run no code when loaded; written whole or not at all.

        Raises:
            TypeError: If a column's name, a level or a code is of a type that a file cannot keep, which names the
                column, or a parameter made by ``pyro.param`` has a constraint with arguments of its own.
            OSError: If the folder cannot be written to; a file that was there is as it was.
        """
        with locked():  # a run of the model may have put other numbers into its parameters for a while
            tensors, constraints_of = zip(
                *(parameters_of(one.model, one.guide, one.store) for one in (self, *self.bootstrap)), strict=True
            )
        plain = {
            "recipe": recipe_of(self.model, self.guide, self.schema),
            "dtype": str(self.dtype).removeprefix("torch."),
            "constraints": list(constraints_of),
            "schema": self.schema.to_json(),
            "history": self.history.to_dict("list"),
            "restarts": self.restarts.to_dict("list"),
            "particle_gain": None if self.particle_gain is None else asdict(self.particle_gain),
            "interrupted": self.interrupted,
            "from_data": self.from_data,
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
        with files.held_by(path):
            saved = SavedFit.of(content, plain)
            recipe = {"reason": "it is of an earlier format"} if plain is None else dict(plain["recipe"])
        is_ours = model is None
        if is_ours:
            if "reason" in recipe:
                raise ValueError(
                    f"{path}: does not say how its model and guide are made ({recipe['reason']}): make them as the"
                    " saved ones were, and give them, Fit.load(path, model=..., guide=...)"
                )
            with files.held_by(path, "its model and guide cannot be made"):
                model, guide = saved_pair(recipe, saved)
        guide = PosteriorDraws() if guide is None else guide
        with files.held_by(path):
            saved = saved.renewed(model, guide)
            for role, given in (("model", model), ("guide", guide)):
                if isinstance(given, PosteriorDraws):
                    continue  # it has no shapes of its own
                if isinstance(given, nn.Module) and saved.fits[0][role] and not given.state_dict():
                    call_once(given, saved.schema, next(iter(saved.fits[0][role].values())).dtype)
                check_fits(path, role, given, saved, is_ours=is_ours)

        trained: Any = model
        bootstrap = []
        with files.held_by(path):
            for number in range(1, len(saved.fits)):
                pair = copied_modules(trained, guide)
                bootstrap.append(cls(*pair, saved.schema, store=saved.put(number, *pair)))
            store = saved.put(0, trained, guide)
        return cls(
            trained, guide, saved.schema, saved.history, store, saved.restarts, bootstrap=bootstrap, **saved.told
        )
