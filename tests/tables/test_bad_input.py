"""Wrong input fails at once, in one line that names the column, what was expected and what came."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule

from pyro_mnar import (
    Batch,
    Fit,
    ImportanceWeightedELBO,
    Table,
    TrainingError,
    fit,
    impute,
    observe_mask,
    partially_observed,
    rows,
)
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.models import GINA, PartialVAE
from pyro_mnar.tables.places import Place, placed

GAP = [1.0, np.nan, 3.0, 4.0]
SEEN = [1.0, 2.0, 3.0, 5.0]


def line_of(error, call, *args, **options):
    """The message of the error that the call raises; it must be one line, and a warning before it would be an error."""
    with warnings.catch_warnings(action="error"), pytest.raises(error) as caught:
        call(*args, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert message
    return message


def of_frame(columns, **options):
    options.setdefault("auxiliary", [])
    return Table.from_frame(columns if isinstance(columns, pd.DataFrame) else pd.DataFrame(columns), **options)


def untrained(**options):
    table = of_frame({"age": SEEN, "income": GAP}, **options)
    model = GINA(table, latent_dim=1, seed=0)
    return table, model, ZeroImpute(table, 1, hidden=(4,), seed=0)


# Tables -------------------------------------------------------------------------------------------------------------

REPEATED = pd.DataFrame([[1.0, 2.0], [np.nan, 3.0]], columns=["income", "income"])
AT_17 = pd.Series([1.0, 2.0, 5.0], index=[3, 17, 4], name="income")

BAD_FRAMES = {
    "no rows": ({"income": pd.Series([], dtype=float)}, {}, ["at least one row", "got none"]),
    "no columns": (pd.DataFrame(index=[0, 1]), {}, ["at least one column", "got none"]),
    "repeated name": (REPEATED, {}, ["'income'", "once", "2 times"]),
    "nothing observed": ({"age": SEEN, "income": [np.nan] * 4}, {}, ["'income'", "observed value", "none in 4 rows"]),
    "nothing left of codes": ({"income": [-9, -9]}, {"na_values": {"income": -9}}, ["'income'", "observed value"]),
    "infinity": ({"income": AT_17.replace(2.0, np.inf)}, {}, ["'income'", "finite", "inf", "row 17"]),
    "minus infinity": ({"income": AT_17.replace(2.0, -np.inf)}, {}, ["'income'", "finite", "-inf", "row 17"]),
    "infinity among whole numbers beside a gap": (
        {"income": [np.inf, *map(float, range(30)), np.nan]},
        {},
        ["'income'", "finite", "inf", "row 0"],
    ),
    "infinity in a nullable column": (
        {"income": AT_17.astype("Float64").replace(2.0, np.inf)}, {}, ["'income'", "finite", "inf", "row 17"],
    ),
    "text": ({"income": AT_17.astype(object).replace(2.0, "n/a")}, {}, ["'income'", "numbers", "'n/a'", "row 17"]),
    "text among digits": ({"income": ["1.5", "lots", "2"]}, {}, ["'income'", "numbers", "'lots'", "row 1"]),
    "dates in words": ({"day": [1.0, 2.0]}, {"kinds": {"day": "datetime"}}, ["'day'", "dates", "float64"]),
    "complex numbers": ({"income": [1j, 2.0]}, {}, ["'income'", "numbers", "1j"]),
    "categories": ({"town": pd.Categorical(["a", None])}, {}, ["'town'", "two levels", "Binary(('no', 'a'))"]),
    "auxiliary missing": ({"income": GAP}, {"auxiliary": ["age"]}, ["'age'", "['income']"]),
    "auxiliary with holes": (
        {"age": [1, None, 2, 3], "income": GAP}, {"auxiliary": ["age"]}, ["'age'", "every row", "none in row 1"],
    ),
    "text auxiliary with holes": (
        {"sex": ["f", "m", None, "f"], "income": GAP}, {"auxiliary": ["sex"]}, ["'sex'", "every row", "none in row 2"],
    ),
    "auxiliary with codes": (
        {"age": [1, -9, 2, 3], "a": GAP}, {"auxiliary": ["age"], "na_values": {"age": -9}}, ["'age'", "none in row 1"],
    ),
    "auxiliary infinite": (
        {"age": [1, 2, np.inf, 3], "income": GAP}, {"auxiliary": ["age"]}, ["'age'", "finite", "inf", "row 2"],
    ),
    "auxiliary twice": ({"age": SEEN, "income": GAP}, {"auxiliary": ["age", "age"]}, ["'age'", "once", "2 times"]),
    "auxiliaries only": ({"age": SEEN}, {"auxiliary": ["age"]}, ["at least one column to model"]),
    "unknown kind": ({"a": GAP}, {"kinds": {"a": "nominal"}}, ["'a'", "'nominal'", "'continuous'"]),
    "kind of no column": ({"a": GAP}, {"kinds": {"b": "continuous"}}, ["'b'", "['a']"]),
    "codes of no column": ({"a": GAP}, {"na_values": {"b": -9}}, ["'b'", "['a']"]),
    "reasons of no column": ({"a": GAP}, {"by_design": {"b": [-9]}}, ["'b'", "['a']"]),
    "too few booleans": ({"a": GAP}, {"not_applicable": {"a": [True, False]}}, ["'a'", "4 booleans", "got 2"]),
    "a reason for no gap": (
        {"a": GAP}, {"by_design": {"a": [False, False, True, False]}}, ["by_design", "'a'", "gap in row 2", "3.0"],
    ),
    "reasons in an auxiliary": (
        {"age": [1, -9, 2, 3], "a": GAP}, {"auxiliary": ["age"], "by_design": {"age": [-9]}}, ["'age'"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FRAMES)
def test_a_frame_that_cannot_be_read_is_refused_by_name(case):
    columns, options, parts = BAD_FRAMES[case]
    message = line_of(ValueError, of_frame, columns, **options)
    assert [part for part in parts if part not in message] == [], message
    assert "np." not in message


def test_a_single_string_is_no_list_of_auxiliaries():
    assert "'age'" in line_of(TypeError, of_frame, {"age": SEEN, "income": GAP}, auxiliary="age")


@pytest.mark.slow
def test_what_is_no_frame_is_refused_without_type_checkers():
    # In another process: in this one the tests' own type checker would answer first.
    code = """
import numpy
from pyro_mnar import Fit, Table, impute
fit = Fit(print, print, Table.from_numpy(numpy.eye(2)).schema)
for call in (lambda: Table.from_frame([[1.0]]), lambda: impute(fit, [[1.0]])):
    try:
        call()
    except TypeError as error:
        print(error)
"""
    said = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert said.splitlines() == [
        "expected a pandas DataFrame, got list",
        "table: expected a Table or a DataFrame, got list",
    ]


def test_an_array_has_two_dimensions():
    assert "(3,)" in line_of(ValueError, Table.from_numpy, np.zeros(3))


BAD_FILES = {
    "empty": ("", ["empty"]),
    "header only": ("age,income\n", ["at least one row"]),
    "repeated name": ("age,income,age\n1,2,3\n", ["'age'", "once"]),
    "rows longer than the header": ("age,income\n1,2,3\n2,3,4\n", ["line 2", "2 cells", "got 3"]),
    "one row longer than the header": ("age,income\n1,2\n2,3,4\n", ["line 3"]),
    "text": ("age,income\n1,2\n2,lots\n3,4\n4,\n", ["line 3", "'income'", "'lots'"]),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_file_that_cannot_be_read_is_refused(case, tmp_path):
    text, parts = BAD_FILES[case]
    (tmp_path / "t.csv").write_text(text)
    message = line_of(ValueError, Table.from_csv, tmp_path / "t.csv")
    assert [part for part in parts if part not in message] == [], message


BAD_NEW_ROWS = {
    "column missing": ({"sex": ["f"], "income": [1.0]}, ["'age'", "['sex', 'income']"]),
    "auxiliary missing": ({"age": [1.0], "income": [1.0]}, ["'sex'"]),
    "unseen level": ({"sex": ["x"], "income": [1.0], "age": [1.0]}, ["'sex'", "['f', 'm']", "'x'", "row 0"]),
    "a hole in an auxiliary": ({"sex": [None], "income": [1.0], "age": [1.0]}, ["'sex'", "row 0"]),
    "text": ({"sex": ["f"], "income": ["n/a"], "age": [1.0]}, ["'income'", "'n/a'", "row 0"]),
}


@pytest.mark.parametrize("case", BAD_NEW_ROWS)
def test_new_rows_have_the_training_tables_columns(case):
    columns, parts = BAD_NEW_ROWS[case]
    table = of_frame({"sex": ["f", "m", "f", "m"], "age": SEEN, "income": GAP}, auxiliary=["sex"])
    message = line_of(ValueError, table.new_rows, pd.DataFrame(columns))
    assert [part for part in parts if part not in message] == [], message


def test_held_out_cells_fit_the_table_and_spare_u():
    table = of_frame({"age": SEEN, "income": GAP}, auxiliary=None)
    assert "(4, 2), got (4, 1)" in line_of(ValueError, table.hold_out, np.ones((4, 1), dtype=bool))
    assert "'age'" in line_of(ValueError, table.hold_out, np.ones((4, 2), dtype=bool))
    with_mask = of_frame({"age": SEEN, "income": GAP}, auxiliary="mask")
    assert "mask" in line_of(ValueError, with_mask.hold_out, np.ones((4, 2), dtype=bool))


def test_a_batch_has_at_least_one_row():
    table = of_frame({"income": GAP})
    assert "batch_size: expected at least 1, got 0" in line_of(ValueError, table.batches, 0)


# fit ----------------------------------------------------------------------------------------------------------------

BAD_ARGUMENTS = {
    "num_particles": 0,
    "batch_size": 0,
    "epochs": 0,
    "patience": 0,
    "learning_rate": 0.0,
    "held_out": 1.0,
    "seed": -1,
    "estimator": "reinforce",
}


@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_fit_refuses_what_is_out_of_range_by_name(name):
    table, model, guide = untrained()
    message = line_of(ValueError, fit, model, guide, table, progress=False, **{"epochs": 1, name: BAD_ARGUMENTS[name]})
    assert name in message
    assert str(BAD_ARGUMENTS[name]) in message


def test_holding_out_leaves_rows_to_train_on():
    table, model, guide = untrained()
    assert "4 rows" in line_of(ValueError, fit, model, guide, table, epochs=1, held_out=0.9, progress=False)


def test_held_out_rows_have_the_tables_units():
    table, model, guide = untrained()
    other = of_frame({"age": SEEN, "income": [1.0, np.nan, 100.0, 4.0]})
    assert "new_rows" in line_of(ValueError, fit, model, guide, table, epochs=1, held_out=other, progress=False)


def test_a_table_of_another_floating_type_is_refused():
    table, model, guide = untrained(dtype=torch.float32)
    assert "torch.float64" in line_of(ValueError, fit, model, guide, table, epochs=1, progress=False)


def test_nothing_to_train_is_an_error():
    table, _, _ = untrained()
    message = line_of(ValueError, fit, standard_normal, lambda batch: None, table, epochs=1, progress=False)
    assert "no parameters" in message


def test_particles_are_at_least_one():
    assert "num_particles: expected at least 1, got 0" in line_of(ValueError, ImportanceWeightedELBO, 0)


class TurnsBad(PyroModule):
    """x ~ N(location, scale), whose scale is not a number from some step on."""

    def __init__(self, from_step):
        super().__init__()
        self.location = torch.nn.Parameter(torch.zeros(2))
        self.from_step, self.step, self.seen = from_step, 0, []

    def forward(self, batch):
        self.step += torch.is_grad_enabled()  # training steps only; the checks before and after run without gradients
        self.seen.append(self.location.detach().clone())
        scale = torch.ones(2) if self.step < self.from_step else torch.full((2,), torch.nan)
        with rows(batch):
            return partially_observed("x", dist.Normal(self.location.expand(batch.x.shape), scale), batch)


def test_a_loss_that_is_no_number_names_epoch_batch_and_site_and_keeps_the_last_good_parameters():
    table, _, _ = untrained()
    model = TurnsBad(from_step=6)  # two batches an epoch: the second batch (counted from 0: 1) of epoch 3
    with pytest.raises(TrainingError) as caught:
        fit(model, lambda batch: None, table, epochs=9, batch_size=2, num_particles=1, progress=False)
    message = str(caught.value)
    assert "\n" not in message
    for part in ("epoch 3", "batch 1", "nan", "'x_missing'"):
        assert part in message
    assert caught.value.fit.model is model
    assert len(caught.value.fit.history) == 2
    assert model.location.isfinite().all()
    assert (model.location != 0).all()


class Poisoned(PyroModule):
    """The objective is a number, its gradient is not: where() does not stop 0 · inf."""

    def __init__(self):
        super().__init__()
        self.location = torch.nn.Parameter(torch.zeros(2))

    def forward(self, batch):
        location = torch.where(self.location == 0, self.location, self.location.sqrt())
        with rows(batch):
            return partially_observed("x", dist.Normal(location.expand(batch.x.shape), torch.ones(2)), batch)


def test_parameters_poisoned_in_the_first_epoch_are_put_back():
    table, _, _ = untrained()
    model = Poisoned()
    with pytest.raises(TrainingError, match=r"epoch 1, batch 1: .* nan; offending site: 'x_"):
        fit(model, lambda batch: None, table, epochs=3, batch_size=2, progress=False)
    assert model.location.tolist() == [0, 0]


def test_a_file_holds_plain_names_only(tmp_path):
    frame = pd.DataFrame({frozenset("ab"): GAP, "b": SEEN})
    table = of_frame(frame)
    model = GINA(table, latent_dim=1)
    result = Fit(model, ZeroImpute(table, 1), table.schema)
    message = line_of(TypeError, result.save, tmp_path / "fit")
    assert "frozenset" in message
    assert not (tmp_path / "fit").exists()


# impute -------------------------------------------------------------------------------------------------------------


def standard_normal(batch: Batch):
    with rows(batch):
        return partially_observed("x", dist.Normal(torch.zeros_like(batch.x), 1.0), batch)


@pytest.mark.parametrize("name", ["num_draws", "num_particles"])
def test_impute_refuses_what_is_out_of_range_by_name(name):
    table, model, guide = untrained()
    message = line_of(ValueError, impute, Fit(model, guide, table.schema), table, **{name: 0})
    assert f"{name}: expected at least 1, got 0" in message


def test_impute_refuses_new_rows_with_other_columns():
    table, model, guide = untrained()
    result = Fit(model, guide, table.schema)
    assert "'age'" in line_of(ValueError, impute, result, pd.DataFrame({"income": [1.0]}))


def test_impute_refuses_a_table_in_other_units():
    table, model, guide = untrained()
    other = of_frame({"age": SEEN, "income": [1.0, np.nan, 100.0, 4.0]})
    assert "new_rows" in line_of(ValueError, impute, Fit(model, guide, table.schema), other)


def test_impute_needs_to_know_what_is_missing_and_what_to_leave_out():
    table, _, _ = untrained()

    def says_nothing(batch):
        with rows(batch):
            pyro.sample("x", dist.Normal(torch.zeros_like(batch.x), 1.0).to_event(1), obs=batch.x)

    def own_mask(batch):
        with rows(batch):
            x = partially_observed("x", dist.Normal(torch.zeros_like(batch.x), 1.0), batch)
            pyro.sample("r", dist.Bernoulli(logits=x).to_event(1), obs=batch.mask.to(x.dtype))

    nothing = Fit(says_nothing, lambda batch: None, table.schema)
    assert "partially_observed" in line_of(ValueError, impute, nothing, table)
    hidden = Fit(own_mask, lambda batch: None, table.schema)
    assert "observe_mask" in line_of(ValueError, impute, hidden, table, use_mechanism=False)


def test_weights_that_are_no_numbers_are_refused():
    table, _, _ = untrained()

    def model(batch):
        with rows(batch):
            x = partially_observed("x", dist.Normal(torch.zeros_like(batch.x), 1.0), batch)
            observe_mask("r", x * torch.nan, batch)

    assert "not a number" in line_of(ValueError, impute, Fit(model, lambda batch: None, table.schema), table)


def test_rows_that_the_model_rules_out_are_refused():
    table, _, _ = untrained()

    def model(batch):
        with rows(batch):
            x = partially_observed("x", dist.Uniform(torch.zeros_like(batch.x), 1e-9), batch)
            observe_mask("r", x, batch)

    assert "weight zero" in line_of(ValueError, impute, Fit(model, lambda batch: None, table.schema), table)


def test_the_models_and_guides_that_ship_refuse_nothing_that_is_right():
    table = of_frame({"age": SEEN, "income": GAP})
    model = PartialVAE(table, latent_dim=1, seed=0)
    result = fit(model, ZeroImpute(table, 1, seed=0), table, epochs=1, batch_size=99, progress=False)
    assert impute(result, table, num_draws=1).mean().notna().all(axis=None)


def test_rows_become_lines_outside_of_names_and_values_and_warnings_come_before_an_error(tmp_path):
    place = Place(tmp_path / "t.csv", (2, 4, 5))
    told = place.in_lines("column 'row 1': expected numbers, got 'row 2' in row 1")
    assert told == "column 'row 1': expected numbers, got 'row 2' in line 4"

    def read() -> None:
        with placed(place, stacklevel=1):
            warnings.warn("carried, see row 0", stacklevel=1)
            raise ValueError("no value in row 2")

    with (
        pytest.warns(UserWarning, match="carried, see line 2"),
        pytest.raises(ValueError, match=r"t\.csv: no value in line 5"),
    ):
        read()
