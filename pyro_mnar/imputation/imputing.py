"""The verb: from a fit and a table to imputations.

How many particles, to which target, with which constraints; what becomes of the draws is told in
:mod:`pyro_mnar.imputation.imputations` and :mod:`pyro_mnar.imputation.single_cells`.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Hashable, Sequence
from typing import Any, TypedDict, Unpack, overload

import torch

from pyro_mnar.capture.tracing import MODES
from pyro_mnar.devices import check_holds_numbers, device_of
from pyro_mnar.imputation.applicability import Applicability
from pyro_mnar.imputation.deltas import Deltas, DeltaScale, scales_of
from pyro_mnar.imputation.imputations import Imputations
from pyro_mnar.imputation.ranges import far_beyond_seen
from pyro_mnar.imputation.reach import Reach
from pyro_mnar.imputation.row_conditions import Conditions, Declared
from pyro_mnar.imputation.row_keys import keys_of_columns, keys_of_content
from pyro_mnar.imputation.sampler import Sampler
from pyro_mnar.imputation.single_cells import CellImputations, impute_cells
from pyro_mnar.imputation.table_gaps import impute_gaps
from pyro_mnar.imputation.target import Target
from pyro_mnar.infer.session import Session
from pyro_mnar.memory import COPIES_OF_A_DRAW, check_room
from pyro_mnar.messages import check_boolean, check_one_of, whole_number
from pyro_mnar.tables.positions import CellPositions
from pyro_mnar.tables.table import Table
from pyro_mnar.training.fitted import Fit, check_fit
from pyro_mnar.training.restarts import member_seed

DEFAULT_DRAWS = 20
DEFAULT_PARTICLES = 100  # of each draw, where draws cannot have them in common
BYTES_OF_A_DRAW = 2 * 8  # of a cell: itself, and in the user's units

log = logging.getLogger(__name__)


class Options(TypedDict, total=False):
    """Options of :func:`impute`, whichever cells are meant."""

    constraints: Sequence[Declared]
    num_draws: int | None
    num_particles: int | None
    use_mechanism: bool
    keep_mechanism_weight: bool
    extrapolate: bool
    delta: Deltas | None
    delta_scale: DeltaScale
    key: Hashable | Sequence[Hashable] | None
    seed: int
    device: torch.device | str | None
    compile: str


@overload
def impute(fit: Fit, table: Any, *, cells: None = None, **options: Unpack[Options]) -> Imputations: ...


@overload
def impute(fit: Fit, table: Any, *, cells: CellPositions, **options: Unpack[Options]) -> CellImputations: ...


def impute(
    fit: Fit,
    table: Any,
    *,
    cells: CellPositions | None = None,
    constraints: Sequence[Declared] = (),
    num_draws: int | None = None,
    num_particles: int | None = None,
    use_mechanism: bool = True,
    keep_mechanism_weight: bool = False,
    extrapolate: bool = False,
    delta: Deltas | None = None,
    delta_scale: DeltaScale = "sd",
    key: Hashable | Sequence[Hashable] | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    compile: str = "auto",  # noqa: A002  (as for fit)
) -> Imputations | CellImputations:
    """Impute by sampling-importance-resampling, twenty draws of a row from particles that they have in common.

    After ``fit(..., bootstrap=M)`` draw m comes from bootstrap fit m, so that the draws carry the uncertainty of the
    parameters as pooling needs it; ``impute(fit.without_bootstrap(), ...)`` draws from the fit itself.

    Args:
        fit: A trained model and guide.
        table: The training table, or new rows (a frame is encoded with the training rows' units, columns matched by
            name).
        cells: The gaps to impute, instead of all: a long frame with the labels of rows and columns, called as in
            ``Table.from_long`` or else ``"row"`` and ``"column"``; or positions of rows and positions of columns; or a
            scipy sparse matrix, whose entries are meant.
        constraints: What every completed row satisfies, beside what the table declares: constraints of
            :mod:`pyro_mnar.tables.constraints`, or functions of a frame of candidate rows to a boolean for each.
            Derived values that were seen hold by themselves.
        num_draws: Completed tables to draw; by default 20, or one from each bootstrap fit.
        num_particles: K, particles of the guide's for each draw of each row, each draw with a set of its own; means use
            all ``num_draws * num_particles``.  By default as many as a row takes: twenty draws have 252 in common (one
            draw 100), half of them proposed near the row's own mode, or 2,000 where the effective sample size of these
            is below two fifths (:mod:`pyro_mnar.imputation.common_particles`).  Where that cannot be (``cells``, row
            constraints, skip patterns, latents that all rows share, a guide that is more than an independent normal law
            of each row, a captured graph), 100 for each draw.
        use_mechanism: Draw from p(X_u | X_o, R), or else from p(X_u | X_o); when each is right stands in
            :mod:`pyro_mnar.imputation.target`.
        keep_mechanism_weight: Weigh the mask by the model's β (``mechanism_weight``) as in training. By default draws
            use β = 1, whatever the training used.
        extrapolate: Draw amounts above zero and counts however far outside of what was seen.  By default such columns
            are drawn no farther outside of the range seen in training than that is wide, or ten times as far where
            their gaps may depend on what is missing (:mod:`pyro_mnar.imputation.reach`), for they are modelled by
            logarithms, and one draw too far would be the mean of all; a gap whose law lies beyond altogether is put at
            that end, and the log says so.  Not held are rows with more than twenty such gaps, and tables with
            constraints on rows, skip patterns that hang on missing values, or derived values that were seen.
        delta: What missing values are moved by after they were drawn, by column: so many observed standard deviations,
            or log-odds of levels; one number, one a row, or a function of the frame, as for
            :meth:`Imputations.shifted`.
        delta_scale: What a number in ``delta`` means: ``"sd"``, ``"outcome"`` (the column's units) or ``"factor"``.
        key: A column of the frame that names rows, or a list of columns that do so together: a row then gets the same
            draws from the same seed whatever rows stand beside it and in whichever order, but for rounding.  True: by
            what a model sees of the row; of several equal rows each has draws of its own.  By default draws depend on
            where a row stands.  Python draws them, whatever ``compile`` says.
        seed: Same seed, same draws; the caller's generators stay as they are.
        device: Where to compute; by default where the parameters are.
        compile: How particles are drawn and weighed: ``"eager"``, by Python; ``"graph"``, captured once as a list of
            tensor operations; ``"inductor"``, captured and compiled; ``"auto"``, what pays for the number of particles
            ahead, Python where draws have these in common.  Python takes over where nothing can be captured (as with
            ``cells``, row constraints, derived values that were seen beside several gaps, or bounds of counts); the log
            (``logging``, logger ``pyro_mnar``) says why.  Python draws other random numbers than the graph does,
            interpreted or compiled.

    Returns:
        The imputations, only of cells that are missing and applicable; of ``cells``, in the order given.

    Raises:
        ValueError: If a number is out of range, more draws are asked for than there are bootstrap fits, the table has
            other columns, a cell of ``cells`` is no gap of it, a column with gaps is not drawn exactly once by a site
            of ``partially_observed`` (names both), the model has no site made by ``observe_mask``, where it is to be
            left out, or constraints cannot be satisfied, which names the rows; or a delta leads out of a column's kind
            or bounds.
        TypeError: If ``table`` is neither a Table nor a DataFrame.
    """
    check_fit(fit)
    num_draws = (len(fit.bootstrap) or DEFAULT_DRAWS) if num_draws is None else num_draws
    num_draws, is_free = whole_number("num_draws", num_draws), num_particles is None
    num_particles = DEFAULT_PARTICLES if num_particles is None else whole_number("num_particles", num_particles)
    check_boolean("use_mechanism", use_mechanism)
    check_boolean("keep_mechanism_weight", keep_mechanism_weight)
    check_boolean("extrapolate", extrapolate)
    check_one_of("compile", compile, MODES)
    if fit.bootstrap and num_draws > (most := len(fit.bootstrap)):
        raise ValueError(
            f"num_draws: expected at most {most}, one from each bootstrap fit, got {num_draws}: train more,"
            f" fit(..., bootstrap={num_draws}), or hold the parameters fixed, impute(fit.without_bootstrap(), ...)"
        )
    if fit.interrupted:
        warnings.warn(
            f"fit: its training was interrupted after {fit.epochs_done} epochs, and it imputes as well as these taught"
            " it; fit anew for imputations to rely on",
            stacklevel=2,
        )
    table = fit.encoded(table)
    row_keys = None if key is None else keys_of_content(table) if key is True else keys_of_columns(table, key)
    device = device_of(device) if device is not None else fit.device
    check_holds_numbers(device)
    fit = fit.on(device)
    target = Target.of(use_mechanism=use_mechanism, keep_mechanism_weight=keep_mechanism_weight)
    if device.type == "cpu":
        gaps = 1 if cells is not None else max(1, int((~table.mask & table.applicable).sum()))
        check_room("num_draws", num_draws, BYTES_OF_A_DRAW * gaps, "the imputed cells of every draw")
        size = COPIES_OF_A_DRAW * table.schema.num_columns * table.dtype.itemsize
        check_room("num_particles", num_particles, size, "particles of one row")
    conditions = Conditions.of(table, constraints)
    applicability = Applicability.of(table, is_scored=use_mechanism)
    if cells is not None and applicability is not None:
        raise ValueError("cells: expected a table whose skip patterns hang on no missing value; impute all gaps")
    if cells is not None and conditions is not None and conditions.are_of_completed_rows:
        raise ValueError("cells: expected a table without row constraints, which are about completed rows")
    if delta is not None:
        scales_of(table, delta, delta_scale)  # a name that is not there costs no drawing
    if cells is not None and delta:
        raise ValueError("cells: expected no delta, which moves completed tables; impute all gaps")
    with_gaps = (~table.mask).any(0).nonzero().squeeze(-1) if cells is None else table.positions(cells).columns
    if cells is not None and compile not in ("auto", "eager"):
        log.warning("imputation: eager (not captured: rows have different numbers of the cells that were asked for)")
    held_by_none = extrapolate or conditions is not None or applicability is not None
    reach = None if held_by_none else Reach.of(fit, table, target, with_gaps.tolist())
    samplers: list[Sampler] = []
    for member, one in enumerate((fit.bootstrap or [fit])[:num_draws]):
        sampler = Sampler(
            one,
            1 if fit.bootstrap else num_draws,
            num_particles,
            target,
            Session(member_seed(seed, member), device, one.store),
            conditions=conditions,
            applicability=applicability,
            with_gaps=with_gaps.tolist(),
            row_keys=row_keys,
            seed=member_seed(seed, member),
            reach=reach,
            is_free=is_free,
            alike=samplers[0] if samplers else None,
        )
        samplers.append(sampler)
    if cells is not None:
        found = [impute_cells(table, cells, sampler, device) for sampler in samplers]
        asked = CellImputations.of_fits(found) if fit.bootstrap else found[0]
        _warn_of_far(table, reach, asked)
        return asked
    all_gaps = [impute_gaps(table, sampler, device, compile) for sampler in samplers]
    imputations = Imputations.of_fits(all_gaps) if fit.bootstrap else all_gaps[0]
    _warn_of_far(table, reach, imputations)
    return imputations.shifted(delta, scale=delta_scale, seed=seed) if delta else imputations


def _warn_of_far(table: Table, reach: Reach | None, found: Imputations | CellImputations) -> None:
    """Say which columns are imputed far outside of what was seen, or as far as they may."""
    said = far_beyond_seen(table.schema.columns, found.cells, found.draws)
    for one in [*said, *([] if reach is None else reach.said(found.cells, found.draws))]:
        log.warning("%s", one)
