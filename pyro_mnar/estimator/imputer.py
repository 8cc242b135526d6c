"""scikit-learn's contract around ``fit`` and ``impute``: rows with gaps in, completed ones out."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn import get_config
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.impute import MissingIndicator
from sklearn.utils.validation import check_is_fitted

from pyro_mnar.estimator.containers import as_polars, gaps_of, read_rows, read_weights, weight_label
from pyro_mnar.estimator.declared import GraphLike, by_name, graph_of, named, seed_of
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.imputation import Imputations, impute
from pyro_mnar.kinds import Kind
from pyro_mnar.kinds.reading import holds_code
from pyro_mnar.messages import check_boolean, shown, whole_number
from pyro_mnar.models import GINA
from pyro_mnar.tables.constraints import RowConstraint
from pyro_mnar.tables.table import Table
from pyro_mnar.training import fit
from pyro_mnar.training.schedule import steps_per_epoch


class MNARImputer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Impute values that are missing not at random: GINA, with a missingness graph of your choice or the likely one.

    ``transform`` fills each gap with its posterior mean given that it *was* withheld (of words, with the most probable
    one), :meth:`sample` and :meth:`impute` draw.  A single completed table understates uncertainty; for standard errors
    use ``imputer.impute(X).pool(analysis)``.

    Columns are named by their labels.  Those of an array are called ``"x0"``, ``"x1"``, and so on; an integer that is
    no label is a position.

    Args:
        graph: Who causes whose missingness: a preset's name (``"self_masking"``, ``"mar"``, ``"latent_dependent"``,
            ...), a :class:`~pyro_mnar.MissingnessGraph`, a list of its edges, or a mapping from columns to the causes
            of their missingness.  None: what the rows make likely (:func:`~pyro_mnar.graphs.likely.likely_causes`),
            and warnings where they say little.
        kinds: Kind of a column, by column, or one for all, as for :meth:`~pyro_mnar.Table.from_frame`.
        auxiliary: Columns that are U: complete, conditioned on, not imputed.  None: the complete columns, which stay
            modelled too, and none if all are complete; they must be complete in new rows as well.  ``"mask"``, or an
            empty list, as for :meth:`~pyro_mnar.Table.from_frame`.
        carry: Columns that are neither modelled nor imputed, such as identifiers: they come out as they went in.
        lower: Least values of columns, which imputations keep to.
        upper: Greatest values of columns.
        constraints: What every row satisfies, such as ``InOrder("start", "end")``.
        missing_values: What stands for a gap.  None and pandas' NA always do; NaN in a number column only if it is
            this.
        latent_dim: H; by default one less than the number of columns, at most 32.
        max_steps: About how many gradient steps to train for, at least one pass over the rows; by default those of
            :func:`~pyro_mnar.fit`, few where the model starts from the data.
        batch_size: Rows of a minibatch.
        num_particles: K while training.  Few of them pull the mechanism towards ignorable.
        learning_rate: Adam's, at the start; by default that of :func:`~pyro_mnar.fit`.
        num_draws: Completed tables of :meth:`impute`; a mean is that of their particles.
        sample_posterior: Whether ``transform`` fills gaps with one joint draw instead of means.
        add_indicator: Whether to append a column of ones and zeros for each column that had gaps in training.
        keep_empty_features: Whether columns without any value in training are kept, filled with 0, or dropped.
        random_state: An int for the same numbers each time; None draws a seed from NumPy's global generator.
        verbose: Whether to show a progress bar.

    Attributes:
        fit_: The trained model and guide, a :class:`~pyro_mnar.Fit`.
        seed_: Of training and of imputations.
        indicator_: scikit-learn's ``MissingIndicator``, or None.
        n_features_in_: Number of columns seen.
        feature_names_in_: Their names, if all are text.

    Raises:
        ValueError: (by ``fit`` and ``transform``) As :meth:`~pyro_mnar.Table.from_frame` and
            :func:`~pyro_mnar.fit` do, with the column; if a column that was complete in training, and so serves as U,
            has gaps in new rows.
    """

    def __init__(
        self,
        *,
        graph: GraphLike | None = None,
        kinds: Mapping[Hashable, str | Kind] | str | Kind | None = None,
        auxiliary: Collection[Hashable] | Literal["mask"] | None = None,
        carry: Collection[Hashable] = (),
        lower: Mapping[Hashable, float] | None = None,
        upper: Mapping[Hashable, float] | None = None,
        constraints: Sequence[RowConstraint] = (),
        missing_values: Any = np.nan,
        latent_dim: int | None = None,
        max_steps: int | None = None,
        batch_size: int = 128,
        num_particles: int = 20,
        learning_rate: float | None = None,
        num_draws: int = 20,
        sample_posterior: bool = False,
        add_indicator: bool = False,
        keep_empty_features: bool = False,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.graph = graph
        self.kinds = kinds
        self.auxiliary = auxiliary
        self.carry = carry
        self.lower = lower
        self.upper = upper
        self.constraints = constraints
        self.missing_values = missing_values
        self.latent_dim = latent_dim
        self.max_steps = max_steps
        self.batch_size = batch_size
        self.num_particles = num_particles
        self.learning_rate = learning_rate
        self.num_draws = num_draws
        self.sample_posterior = sample_posterior
        self.add_indicator = add_indicator
        self.keep_empty_features = keep_empty_features
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> MNARImputer:
        """Train on rows with gaps; ``y`` is ignored.

        Args:
            X: The rows.
            y: Nothing is read from it.
            sample_weight: How many rows each row stands for, as ``weights`` of :meth:`~pyro_mnar.Table.from_frame`:
                rows count that often in the objective.  Metadata routing hands it on after
                ``set_fit_request(sample_weight=True)``.
        """
        self._check_arguments()
        frame = self._read(X, reset=True)
        self._labels = list(frame.columns)
        self.seed_ = seed_of(self.random_state)
        carry = named(self.carry, self._labels, "carry")
        empty = [name for name in frame.columns if name not in carry and not frame[name].notna().any()]
        self._set_empty(frame, empty)
        self._filled = [name for name in frame.columns if name not in empty]
        if not set(self._filled) - set(carry):
            raise ValueError("expected at least one column with a value to model, got empty or carried columns only")

        rows = frame[self._filled]
        self._is_weighted = sample_weight is not None
        table = Table.from_frame(
            self._with_weights(rows, sample_weight),
            weights=weight_label(self._labels) if self._is_weighted else None,
            auxiliary=self._auxiliary(rows.drop(columns=carry)),
            carry=carry,
            kinds=by_name(self.kinds, self._labels, "kinds"),
            lower=by_name(self.lower, self._labels, "lower"),
            upper=by_name(self.upper, self._labels, "upper"),
            constraints=self.constraints,
        )
        model = GINA(table, latent_dim=self.latent_dim, graph=graph_of(self.graph, table), seed=self.seed_)
        self.fit_ = fit(
            model,
            ZeroImpute(table, model.latent_dim, seed=self.seed_),
            table,
            epochs=self.max_steps and -(-self.max_steps // steps_per_epoch(len(table), self.batch_size)),
            batch_size=self.batch_size,
            num_particles=self.num_particles,
            learning_rate=self.learning_rate,
            seed=self.seed_,
            progress=self.verbose,
        )
        self.indicator_ = None
        if self.add_indicator:
            self.indicator_ = MissingIndicator(error_on_new=False).fit(gaps_of(frame))
        return self

    def transform(self, X: Any) -> Any:
        """The rows with their gaps filled; ``(rows, columns)``, an array unless ``set_output`` says otherwise."""
        check_is_fitted(self)
        frame = self._read(X, reset=False)
        imputations = self._imputed(frame, 1 if self.sample_posterior else self.num_draws, self.seed_)
        completed = next(iter(imputations.frames())) if self.sample_posterior else imputations.mean()
        return self._output(frame, completed)

    def sample(self, X: Any, n: int = 20, *, random_state: Any = None) -> list[Any]:
        """``n`` completed tables, each as ``transform`` gives one.

        Args:
            X: The rows.
            n: How many.
            random_state: For other draws than those of the estimator's own seed, which are the same on each call.
        """
        check_is_fitted(self)
        frame = self._read(X, reset=False)
        drawn = self._imputed(frame, n, self._seed(random_state)).frames()
        return [self._output(frame, completed) for completed in drawn]

    def impute(
        self, X: Any, *, num_draws: int | None = None, sample_weight: Any = None, random_state: Any = None
    ) -> Imputations:
        """The imputations themselves, with draws, pooling and ArviZ output; see :func:`~pyro_mnar.impute`.

        Args:
            X: The rows.
            num_draws: How many, by default the estimator's.
            sample_weight: Of an imputer that was fitted with weights, and needed there: what pooled formulas weight
                these rows by, in a column of the completed frames.  1 counts rows alike.
            random_state: As for :meth:`sample`.
        """
        check_is_fitted(self)
        frame = self._read(X, reset=False)
        if (sample_weight is None) is self._is_weighted:
            raise ValueError(
                "sample_weight: expected those of these rows, by which formulas are pooled, since fit had some, got"
                " none; sample_weight=1 counts rows alike"
                if self._is_weighted
                else "sample_weight: expected none, since fit had none; give some to both"
            )
        num_draws = self.num_draws if num_draws is None else num_draws
        return self._imputed(frame, num_draws, self._seed(random_state), sample_weight)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Names of the columns of ``transform``'s result; those of indicators start with ``missingindicator_``."""
        check_is_fitted(self)
        names = super().get_feature_names_out(input_features)
        kept = names[[label not in self._dropped for label in self._labels]]
        if self.indicator_ is None:
            return kept
        return np.concatenate([kept, self.indicator_.get_feature_names_out(names)])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = pd.isna(self.missing_values)
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _check_arguments(self) -> None:
        """Those that nothing else looks at, or that would mean something else unchecked."""
        if self.max_steps is not None:
            whole_number("max_steps", self.max_steps)
        for name in ("batch_size", "num_draws"):
            whole_number(name, getattr(self, name))
        for name in ("sample_posterior", "add_indicator", "keep_empty_features"):
            check_boolean(name, getattr(self, name))
        missing = self.missing_values
        if not pd.api.types.is_scalar(missing) or hasattr(missing, "detach"):  # a tensor counts as a number
            raise TypeError(f"missing_values: expected one value, such as -1 or np.nan, got {shown(missing)}")

    def _read(self, X: Any, *, reset: bool) -> pd.DataFrame:
        """The rows as a frame with the labels of training, in which gaps are missing."""
        is_gap_nan = pd.isna(self.missing_values)
        frame = read_rows(self, X, reset=reset, allow_nan=is_gap_nan)
        if not reset:
            frame.columns = pd.Index(self._labels, tupleize_cols=False)
        if is_gap_nan or frame.shape[1] == 0:
            return frame
        numbers = frame.select_dtypes("floating")
        holes = numbers.columns[numbers.isna().any()]
        if len(holes):
            raise ValueError(
                f"Input X contains NaN: column {holes[0]!r}: expected gaps as missing_values={self.missing_values!r}"
            )
        gaps = [holds_code(frame.iloc[:, at], [self.missing_values]) for at in range(frame.shape[1])]
        return frame.mask(np.column_stack(gaps))

    def _set_empty(self, frame: pd.DataFrame, empty: list[Hashable]) -> None:
        """Note what becomes of columns without any value."""
        self._dropped: set[Hashable] = set()
        self._zeros: set[Hashable] = set()
        if self.keep_empty_features:
            for name in empty:
                if isinstance(frame[name].dtype, pd.CategoricalDtype):
                    raise ValueError(
                        f"column {name!r}: has no value in training, and keep_empty_features fills with 0, which a"
                        " category cannot be; leave the column out"
                    )
            self._zeros = set(empty)
        elif empty:
            warnings.warn(
                f"Skipping features without any observed values: {empty!r}; keep_empty_features=True fills them with 0",
                stacklevel=3,
            )
            self._dropped = set(empty)

    def _imputed(self, frame: pd.DataFrame, num_draws: int, seed: int, sample_weight: Any = None) -> Imputations:
        rows = self._with_weights(frame[self._filled], sample_weight)
        return impute(self.fit_, rows, num_draws=num_draws, seed=seed)

    def _with_weights(self, rows: pd.DataFrame, sample_weight: Any) -> pd.DataFrame:
        """The rows with a column of their weights, if they have some."""
        if sample_weight is None:
            return rows
        return rows.assign(**{weight_label(self._labels): read_weights(sample_weight, len(rows))})

    def _output(self, frame: pd.DataFrame, completed: pd.DataFrame) -> Any:
        """Completed columns beside those that were empty, in the container that is asked for."""
        done = {}
        for at, name in enumerate(frame.columns):
            if name in self._zeros:
                values = pd.to_numeric(frame[name])
                done[at] = values.fillna(False if pd.api.types.is_bool_dtype(values.dtype) else 0)
            elif name not in self._dropped:
                done[at] = completed[name]
        if self.indicator_ is not None:
            indicators = self.indicator_.transform(gaps_of(frame))
            done |= {len(self._labels) + at: pd.Series(gaps, frame.index) for at, gaps in enumerate(indicators.T)}
        result = pd.DataFrame(done, index=frame.index)
        result.columns = pd.Index(self.get_feature_names_out(), dtype=object)
        container = getattr(self, "_sklearn_output_config", {}).get("transform", get_config()["transform_output"])
        if container == "pandas":
            return result
        return as_polars(result) if container == "polars" else result.to_numpy()

    def _auxiliary(self, rows: pd.DataFrame) -> Any:
        if self.auxiliary is None:
            # Where nothing is missing, U = X would leave nothing that may be missing in new rows; no U at all is worse
            # where something is missing, which the table says when it is made.
            return [] if rows.notna().to_numpy().all() else None
        return self.auxiliary if isinstance(self.auxiliary, str) else named(self.auxiliary, self._labels, "auxiliary")

    def _seed(self, random_state: Any) -> int:
        return self.seed_ if random_state is None else seed_of(random_state)
