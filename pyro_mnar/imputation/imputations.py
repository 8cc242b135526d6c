"""Imputations of all gaps of a table, and the completed tables that they give."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import NDArray

from pyro_mnar.imputation.analyses import Analysis, likelihood_ratio_frames, pool_frames
from pyro_mnar.imputation.applicability import Applicability, average_applicable
from pyro_mnar.imputation.deltas import Deltas, DeltaScale, Moved, check_deltas, moved
from pyro_mnar.imputation.pooled import Pooled
from pyro_mnar.imputation.pooling import JointTest
from pyro_mnar.imputation.ranges import beyond_seen
from pyro_mnar.imputation.results import ImputedCells, joint_sample_size, mean_over
from pyro_mnar.imputation.row_conditions import Conditions
from pyro_mnar.imputation.target import Target
from pyro_mnar.messages import check_is, check_list, is_one_of, seed_of, shown
from pyro_mnar.tables.completion import completed, with_derived, with_gaps_for, without_value
from pyro_mnar.tables.dense import DenseStorage
from pyro_mnar.tables.derived import computed
from pyro_mnar.tables.native_frames import as_native
from pyro_mnar.tables.survey import design_of, has_design

HELD_FIXED = (
    "Every draw was made at the same parameters of the imputation model, as if these were known: the intervals leave"
    " their uncertainty out and are too narrow. Draw from fit(..., bootstrap=20)."
)
_OF_POSTERIOR = (
    "Every draw has a draw of its own of the latents that all rows share, so the intervals hold their uncertainty; what"
    " is a parameter without a prior is held fixed."
)
OF_BOOTSTRAP = (
    "Every draw is from a fit of its own to bootstrap weights of the rows, so the intervals hold the uncertainty of the"
    " imputation model's parameters."
)

SHOWN = 8  # columns in the representation


@dataclass(frozen=True)
class Imputations(ImputedCells):
    """Draws and means of the missing entries, in the user's units; observed entries are not stored twice.

    Attributes:
        table: The table that was imputed.
        cells: Row and column position of each imputed cell, row by row; ``(2, cells)``.
        draws: One completed table a draw, NaN where one says that there is no value; ``(draws, cells)``.
        means: Σ_k w_k x_u^k over all particles of all draws; of words, the position of the most probable; where some
            draws say that there is no value, the mean of the others, or NaN if most do; ``(cells,)``.
        effective_sample_size: 1 / Σ w_k² per row over all particles; a few mean that the row's draws repeat values;
            ``(rows,)``, infinite for rows with nothing to impute.
        shares: Of each column of levels, by position, the posterior probability of every level; ``(cells of the
            column, levels)``.
        target: The law that was drawn from.
        conditions: What every completed row satisfies; None if there is nothing.
        applicability: Skip patterns that hang on missing values; None if there are none.
        from_bootstrap: Whether every draw is from a fit of its own, so that the draws carry the uncertainty of the
            parameters; else they hold these fixed.
        from_posterior: Whether every draw has its own posterior draw of latents that all rows share, such as parameters
            with priors.
    """

    shares: dict[int, Float[NDArray, "_ _"]] = field(default_factory=dict)
    target: Target = Target.GIVEN_MASK
    conditions: Conditions | None = field(default=None, repr=False)
    applicability: Applicability | None = field(default=None, repr=False)
    from_bootstrap: bool = False
    from_posterior: bool = False

    @classmethod
    def of_fits(cls, parts: Sequence[Imputations]) -> Imputations:
        """Draws of several fits of one table, one after the other; means over the fits."""
        for part in check_list("parts", parts):
            check_is("parts", part, Imputations)
        first = parts[0]
        means, shares = mean_over([part.means for part in parts]), {}
        for at in first.shares:
            shares[at] = mean_over([part.shares[at] for part in parts])
            if first.table.schema.columns[at].kind.holds_words:
                means[first.cells[1] == at] = shares[at].argmax(1)
        draws = np.concatenate([part.draws for part in parts])
        average_applicable(first.table, first.cells, draws, means, shares)
        effective = joint_sample_size([part.effective_sample_size for part in parts])
        return replace(
            first,
            draws=draws,
            means=means,
            effective_sample_size=effective,
            shares=shares,
            from_bootstrap=True,
        )

    def __repr__(self) -> str:
        rows, columns = self.cells
        lines = [
            f"Imputations: {_counted(self.num_draws, 'draw')} of {_counted(rows.size, 'cell')} in"
            f" {len(np.unique(rows))} of {_counted(len(self.table), 'row')}"
        ]
        names = self.table.schema.names
        found = sorted(zip(*np.unique(columns, return_counts=True), strict=True), key=lambda pair: -pair[1])
        told = [f"{names[at]} {count}" for at, count in found[:SHOWN]]
        more = [f"{_counted(len(found) - SHOWN, 'more column')}"] if len(found) > SHOWN else []
        lines += [f"  by column: {', '.join([*told, *more])}"] if told else []
        inapplicable = int((~self.table.applicable).sum())
        if inapplicable:
            lines.append(f"  not imputed: {_counted(inapplicable, 'cell')} without a value to miss (not applicable)")
        if self.from_bootstrap:
            lines.append("  parameters: a fit of its own for each draw, so intervals hold their uncertainty")
        elif self.from_posterior:
            lines.append("  parameters: a posterior draw of their own for each, so intervals hold their uncertainty")
        else:
            lines.append("  parameters: the same in every draw, so intervals leave out their uncertainty")
        return "\n".join(lines)

    def mean(self) -> Any:
        """The frame with posterior means in its gaps; integer columns that receive a mean become floating.

        Words have no mean: a gap gets the most probable one, and :meth:`probabilities` says how probable.  Derived
        columns have the mean of what their formula gives in each draw.
        """
        return self._own(self._pandas_mean())

    def _pandas_mean(self) -> pd.DataFrame:
        frame, schema = super().mean(), self.table.schema
        if not schema.derived:
            return frame
        given = [self._derived(drawn) for drawn in self.pandas_frames()]
        with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # of rows without a value in any draw
            means = {name: np.nanmean([each[name] for each in given], axis=0) for name in given[0]}
        return with_derived(frame, self.table.frame, schema, means, keep_integers=False)

    def frames(self) -> Iterator[Any]:
        """The completed frames, one a draw, of the frame's own make and dtypes (whole numbers in integer columns)."""
        return map(self._own, super().frames())

    def pandas_frames(self) -> Iterator[pd.DataFrame]:
        """The same in pandas' columns, whatever the make of the frame that came in."""
        return super().frames()

    def analysed_frames(self) -> Iterator[pd.DataFrame]:
        """The same as analyses are to see them: cells that are not applicable are gaps, whatever code stands there."""
        codes = self.table.schema.codes_of("not_applicable")
        return (with_gaps_for(frame, codes) for frame in self.pandas_frames())

    def of_own_frames(self, analysis: Analysis) -> Analysis:
        """An analysis of pandas frames: a function gets each as one of the make that came in."""
        storage = self.table.storage
        if not callable(analysis) or not isinstance(storage, DenseStorage) or storage.native is None:
            return analysis
        return lambda frame: analysis(self._own(frame))

    def _own(self, done: pd.DataFrame) -> Any:
        """A completed frame as one of the make that came in."""
        storage, schema = self.table.storage, self.table.schema
        if not isinstance(storage, DenseStorage) or storage.native is None:
            return done
        names = {*schema.names, *(one.column for one in schema.derived)}
        return as_native(storage.native, storage.frame, done, names)

    def probabilities(self, column: Hashable) -> pd.DataFrame:
        """Posterior probability of every level in each imputed cell of a column; ``(cells of the column, levels)``.

        Raises:
            ValueError: If the column has no levels or is not there.
        """
        names = self.table.schema.names
        position = names.index(column) if is_one_of(column, names) else -1
        if position not in self.shares:
            known = [names[at] for at in self.shares]
            raise ValueError(f"column {shown(column)}: expected one whose values are levels, of {known!r}")
        rows = self.cells[0][self.cells[1] == position]
        levels = pd.Index(self.table.schema.columns[position].kind.levels, tupleize_cols=False)
        return pd.DataFrame(self.shares[position], index=self.table.row_labels[rows], columns=levels)

    def pool(
        self,
        analysis: Analysis,
        *,
        outcome: Hashable | None = None,
        dfcom: float | None = None,
        rule: str = "barnard-rubin",
        confidence: float = 0.95,
    ) -> Pooled:
        """Run an analysis on every completed frame and combine what it says by Rubin's rules.

        Arguments, what an analysis may be, and errors as of :func:`pyro_mnar.pool_frames`.  Cells that are not
        applicable are gaps to it, whatever code stands there, so that formulas leave their rows out.  Of a survey
        (``Table.from_frame(weights=, cluster=, strata=)``) a formula is fitted with its weights and the errors of its
        design; a function finds the columns in the frames.

        Raises:
            ValueError: As there, and if the draws do not know that their values were withheld (``use_mechanism=False``,
                or β as in training): what is computed from such tables stays biased, however many draws there are.
        """
        self._refuse_biased()
        note = OF_BOOTSTRAP if self.from_bootstrap else _OF_POSTERIOR if self.from_posterior else HELD_FIXED
        return pool_frames(
            self.analysed_frames(),
            self.of_own_frames(analysis),
            outcome=outcome,
            dfcom=dfcom,
            rule=rule,
            confidence=confidence,
            note=note,
            design=design_of(self.table.frame, self.table.schema) if has_design(self.table.schema) else None,
        )

    def likelihood_ratio(self, full: Analysis, null: Analysis, *, num_tested: int | None = None) -> JointTest:
        """D4: does a model say more than a smaller one, by their likelihoods on the completed frames?

        Arguments and errors as of :func:`~pyro_mnar.imputation.analyses.likelihood_ratio_frames`, and the ValueError of
        :meth:`pool`.
        """
        self._refuse_biased()
        if has_design(self.table.schema):
            raise ValueError(
                "likelihood_ratio: expected rows sampled alike, got a survey with weights, clusters or strata, whose"
                " pseudo-likelihood has no such ratio: test coefficients with pool(...).wald([...])"
            )
        return likelihood_ratio_frames(self.analysed_frames(), full, null, num_tested=num_tested)

    def shifted(self, delta: Deltas, *, scale: DeltaScale = "sd", seed: int = 0) -> Imputations:
        """The same imputations, moved by deltas: what if the missing values are larger, or rarer, than the fit says?

        Args:
            delta: By column, what its missing values are moved by: a number; one a row, as a Series or an array; or a
                function of the table's frame to either.  Of levels, log-odds: of every level but the first against the
                first, or of columns without an order by level, ``{"job": {"manual": 0.5}}``; of levels in their order,
                of this level or a higher one.
            scale: What a number means for columns of numbers: ``"sd"``, so many observed standard deviations, of the
                logarithm or logit where the kind goes by one; ``"outcome"``, so much in the column's units;
                ``"factor"``, so many times the value; for all columns, or by column.
            seed: Of the numbers that decide which draws of levels and of whole numbers move.

        Raises:
            ValueError: As :func:`~pyro_mnar.imputation.deltas.moved`, and if a row no longer satisfies its constraints.
        """
        check_deltas(delta)
        seed = seed_of(seed)
        told = set() if self.applicability is None else self.applicability.columns & set(delta)
        if told:
            raise ValueError(
                f"delta of column {min(map(str, told))!r}: expected columns of which no skip pattern hangs on missing"
                " values, since a moved value decides whether there is another"
            )
        new = moved(self.table, self.cells, Moved(self.draws, self.means, self.shares), delta, scale, seed)
        if self.conditions is not None:
            self.conditions.check(new.draws, self.cells)
        return replace(self, draws=new.draws, means=new.means, shares=new.shares)

    def out_of_range(self) -> pd.DataFrame:
        """Columns of which draws lie outside the range that the training rows hold.

        A model may be right to go beyond; or its kind allows what the column does not, such as negative weights.

        Returns:
            A row for each such column: ``below`` and ``above``, the shares of its draws; ``least_seen`` and
            ``greatest_seen``; and ``said``, the same in a sentence, with a kind that keeps to zero where one does.
        """
        return beyond_seen(self.table.schema.columns, self.cells, self.draws)

    def plot(self, column: Hashable, ax: Any = None) -> Any:
        """A column's draws beside its observed values: :func:`pyro_mnar.plots.imputed_against_observed`; returns the
        Axes.
        """
        from pyro_mnar.plots.imputed import imputed_against_observed

        return imputed_against_observed(self, column, ax)

    def to_inference_data(self, pareto_k: pd.Series | None = None) -> Any:
        """An ArviZ object of draws, observed data and auxiliary constants, with named dimensions.

        The draws are independent, one chain: ``arviz.summary(..., kind="stats")`` leaves out what only chains have.
        Rows and columns are labelled by text, so that netCDF and zarr keep it.

        Args:
            pareto_k: k-hat of rows by position, ``diagnose(fit, imputations).rows.pareto_k``, for ``sample_stats``.
        """
        from pyro_mnar.imputation.inference_data import draws_to_inference_data

        return draws_to_inference_data(
            self.table,
            self.cells,
            self.draws,
            effective_sample_size=self.effective_sample_size,
            pareto_k=pareto_k,
        )

    def _refuse_biased(self) -> None:
        if self.target is not Target.GIVEN_MASK:
            option = "use_mechanism=False" if self.target is Target.WITHOUT_MASK else "keep_mechanism_weight=True"
            raise ValueError(
                f"pool: expected draws from {Target.GIVEN_MASK.value}, got draws from {self.target.value} ({option}),"
                " which do not know, or not fully, that their values were withheld: a table completed with them stays"
                " biased, and no number of draws mends it. Draw anew with impute(fit, table)"
            )

    def _frame(self, values: Float[NDArray, " cells"], *, keep_integers: bool) -> pd.DataFrame:
        seen, (rows, columns) = ~np.isnan(values), self.cells
        table, schema = self.table, self.table.schema
        frame = completed(table.frame, schema, self.cells[:, seen], values[seen], keep_integers=keep_integers)
        for position in {schema.names.index(skip.column) for skip in schema.skips}:
            # Where there is no value a code for a missing one says something else.
            blank = rows[~seen & (columns == position)]
            if schema.names[position] in table.codes.columns:
                coded = table.codes[schema.names[position]].notna().to_numpy()
                blank = np.union1d(blank, np.flatnonzero(coded & ~table.applicable[:, position].numpy()))
            if len(blank):
                frame = without_value(frame, schema, position, blank)
        if not schema.derived:
            return frame
        return with_derived(frame, table.frame, schema, self._derived(frame), keep_integers=keep_integers)

    def _derived(self, frame: pd.DataFrame) -> dict[Hashable, Float[NDArray, " rows"]]:
        """What formulas give in a completed frame, to which a code for no value is no number."""
        schema = self.table.schema
        unimputed = {name: codes for name, codes in schema.codes_of("na_values").items() if name not in schema.names}
        coded = with_gaps_for(with_gaps_for(frame, unimputed), schema.codes_of("not_applicable"))
        return computed(schema.derived, coded)


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")
