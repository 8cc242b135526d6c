"""Files of fits: they come back in one line, in whole, or not at all, and run no code."""

from __future__ import annotations

import datetime as dt
import decimal
import hashlib
import io
import json
import os
import pickle
import zipfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from checks import NormalGuide, table_with_gaps
from pyro_mnar import Fit, InOrder, MissingnessGraph, SumsTo, Table, fit, impute, mechanisms
from pyro_mnar.guides import FromModel, MeanField, PointNet, ZeroImpute
from pyro_mnar.kinds import Bounded, Categorical
from pyro_mnar.models import GINA, Ignorable, LatentDependent, NotMIWAE, PartialVAE, SelfMasking
from pyro_mnar.training import files

FORMAT_1 = Path(__file__).parent / "files" / "format_1.pt"
TABLE = Table.from_frame(table_with_gaps().frame, auxiliary=["u0"], dtype=torch.float64)
GRAPH = MissingnessGraph([("x0", "R[x0]", {"sign": "high"}), ("Z", "R[x1]")], TABLE)
PAIRS = {
    "GINA": lambda: (GINA(TABLE, latent_dim=2), ZeroImpute(TABLE, 2, hidden=[4, 3], activation=nn.ReLU)),
    "graph": lambda: (GINA(TABLE, latent_dim=2, graph=GRAPH), PointNet(TABLE, 2, embedding_dim=3)),
    "mechanism": lambda: (
        GINA(TABLE, latent_dim=2, mechanism=partial(mechanisms.SelfMasking, sign=[1, 0, -1])),
        MeanField(TABLE, 2),
    ),
    "general": lambda: (NotMIWAE(TABLE, latent_dim=2, mechanism=mechanisms.General), ZeroImpute(TABLE.schema, 2)),
    "linear": lambda: (LatentDependent(TABLE, latent_dim=2, sign=-1), ZeroImpute(TABLE, 2, hidden=(4,))),
    "self-masking": lambda: (SelfMasking(TABLE, latent_dim=1, mechanism_weight=0.5), ZeroImpute(TABLE, 1)),
    "ignorable": lambda: (Ignorable(TABLE, latent_dim=2), ZeroImpute(TABLE, 2)),
    "partial": lambda: (PartialVAE(TABLE, latent_dim=2), ZeroImpute(TABLE, 2)),
}
VALUES = [
    "Ely",
    3,
    2.5,
    float("inf"),
    True,
    None,
    np.int64(3),
    np.float32(0.1),
    np.str_("Ely"),
    np.bool_(True),
    np.datetime64("2020-01-01", "D"),
    pd.NaT,
    pd.Timestamp("2020-01-01 12:00:00.123456789"),
    pd.Timestamp("2020-10-25 02:30").tz_localize("Europe/Paris", ambiguous=True),
    pd.Timestamp("2020-10-25 02:30").tz_localize("Europe/Paris", ambiguous=False),
    pd.Timestamp("2020-01-01").as_unit("s"),
    dt.datetime(2020, 1, 1, 12),
    dt.date(2020, 1, 1),
    dt.time(12, 30),
    pd.Timedelta(days=1, nanoseconds=3),
    pd.Interval(0.0, 1.5, closed="left"),
    pd.Interval(pd.Timestamp("2020-01-01"), pd.Timestamp("2021-01-01")),
    pd.Period("2020-03", freq="M"),
    decimal.Decimal("1.10"),
    ("a", 1, dt.date(2020, 1, 1)),
]


def parameters_of(result: Fit) -> list[Tensor]:
    return [*result.model.parameters(), *result.guide.parameters()]


@pytest.mark.parametrize("name", PAIRS)
def test_one_line_brings_back_our_own_pairs(name: str, tmp_path: Path) -> None:
    model, guide = PAIRS[name]()
    with torch.no_grad():
        for parameter in [*model.parameters(), *guide.parameters()]:
            parameter.add_(0.1 * torch.randn(parameter.shape))
    saved = Fit(model, guide, TABLE.schema)
    saved.save(tmp_path / "fit")
    before = torch.get_rng_state()
    loaded = Fit.load(tmp_path / "fit")
    assert torch.equal(torch.get_rng_state(), before)
    assert type(loaded.model) is type(model) and type(loaded.guide) is type(guide)
    assert loaded.schema == TABLE.schema
    np.testing.assert_array_equal(impute(loaded, TABLE, num_draws=2).draws, impute(saved, TABLE, num_draws=2).draws)


def test_comes_back_in_its_own_type(tmp_path: Path) -> None:
    torch.set_default_dtype(torch.float32)
    table = table_with_gaps()
    result = fit(
        GINA(table, latent_dim=1), ZeroImpute(table, 1), table, epochs=1, bootstrap=2, progress=False, compile="eager"
    )
    result.save(tmp_path / "fit")
    torch.set_default_dtype(torch.float64)
    loaded = Fit.load(tmp_path / "fit")
    assert loaded.dtype == torch.float32 and torch.get_default_dtype() == torch.float64
    pd.testing.assert_frame_equal(loaded.history, result.history)
    assert len(loaded.bootstrap) == 2
    pairs = zip(parameters_of(result.bootstrap[1]), parameters_of(loaded.bootstrap[1]), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)


def test_says_whose_model_a_file_cannot_make(tmp_path: Path) -> None:
    own, other = (GINA(TABLE, latent_dim=1, mechanism=mechanisms.SelfMasking(3)) for _ in range(2))
    Fit(own, ZeroImpute(TABLE, 1), TABLE.schema).save(tmp_path / "fit")
    with pytest.raises(
        ValueError, match=r"the model's mechanism is SelfMasking of your own.*model=\.\.\., guide=\.\.\."
    ):
        Fit.load(tmp_path / "fit")
    Fit(own, NormalGuide(1.0, 1.0), TABLE.schema).save(tmp_path / "fit")
    loaded = Fit.load(tmp_path / "fit", other, NormalGuide(0.0, 2.0))
    assert loaded.guide.slope == 1
    with pytest.raises(ValueError, match="model: expected one beside the guide, got a guide alone"):
        Fit.load(tmp_path / "fit", guide=NormalGuide(0.0, 2.0))


def test_a_subclass_of_ours_is_not_ours(tmp_path: Path) -> None:
    class Mine(GINA):
        pass

    Fit(Mine(TABLE, latent_dim=1), ZeroImpute(TABLE, 1), TABLE.schema).save(tmp_path / "fit")
    with pytest.raises(ValueError, match="its model is Mine, which is none of pyro_mnar's own"):
        Fit.load(tmp_path / "fit")


def test_nothing_is_overwritten_before_everything_fits(tmp_path: Path) -> None:
    Fit(GINA(TABLE, latent_dim=2), ZeroImpute(TABLE, 2), TABLE.schema).save(tmp_path / "fit")
    model, guide = GINA(TABLE, latent_dim=2), ZeroImpute(TABLE, 2, hidden=[3])
    before = [parameter.detach().clone() for parameter in model.parameters()]
    with pytest.raises(ValueError, match="fit: the guide given does not fit: its parameter"):
        Fit.load(tmp_path / "fit", model, guide)
    assert all(map(torch.equal, before, model.parameters()))
    swapped = Table.from_frame(TABLE.frame[["x1", "x0", "x2", "u0"]], auxiliary=["u0"])
    with pytest.raises(ValueError, match="the model given was made for another table"):
        Fit.load(tmp_path / "fit", GINA(swapped, latent_dim=2), ZeroImpute(TABLE, 2))


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_what_a_schema_holds_comes_back(value: Any) -> None:
    frame = pd.DataFrame({"a": [1.0, None, 2.0, 3.0], "b": pd.Series(["p", "q", None, "p"], dtype=object)})
    schema = Table.from_frame(frame, auxiliary=[], kinds={"a": Bounded(0, 10)}).schema
    column = SimpleNamespace(**vars(schema.columns[1]))
    is_gap = value is None or value is pd.NaT  # a code may be one, a level may not
    column.kind = Categorical(("p", "q" if is_gap else value))
    del column.__dict__["is_auxiliary"]
    changed = type(schema)(
        (schema.columns[0], type(schema.columns[1])(**vars(column))),
        (),
        "none",
        codes=(("na_values", "a", (value,)),),
        bounds=(("a", -np.inf, 5.0),),
        constraints=(InOrder("a", "b"), SumsTo(["a", "b"], np.float64(3.0))),
    )
    text = json.dumps(changed.to_json())
    back = type(schema).from_json(json.loads(text))
    assert type(back.codes[0][2][0]) is type(value)
    if is_gap:
        assert back.codes[0][2][0] is value
        return
    assert back == changed
    assert type(back.columns[1].kind.levels[1]) is type(value)


def test_what_cannot_be_kept_is_refused_by_name(tmp_path: Path) -> None:
    values = pd.Series([frozenset({1}), frozenset({2}), None, frozenset({1})] * 5, dtype="category")
    table = Table.from_frame(pd.DataFrame({"a": np.arange(20.0), "b": values}), auxiliary=[])
    result = Fit(GINA(table, latent_dim=1), ZeroImpute(table, 1), table.schema)
    with pytest.raises(TypeError, match=r"column 'b': expected text, a number.*frozenset\(\{1\}\) of type frozenset"):
        result.save(tmp_path / "fit")
    assert not list(tmp_path.iterdir())


def test_flipped_bits_and_cut_files_are_refused(tmp_path: Path) -> None:
    path, random = tmp_path / "fit", np.random.default_rng(0)
    Fit(GINA(TABLE, latent_dim=1), ZeroImpute(TABLE, 1, hidden=[2]), TABLE.schema).save(path)
    content = path.read_bytes()
    for at in random.integers(0, 8 * len(content), 200):
        flipped = bytearray(content)
        flipped[at // 8] ^= 1 << (at % 8)
        path.write_bytes(flipped)
        with pytest.raises(ValueError, match=str(path)):
            Fit.load(path)
    for length in (0, 1, 20, 90, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=str(path)):
            Fit.load(path)


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "fit"
    with pytest.raises(ValueError, match=r"expected a file that Fit\.save wrote, got a folder"):
        Fit.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        Fit.load(path)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="got something else"):
        Fit.load(path)
    path.write_bytes(b"pyro-mnar fit 4 " + b"0" * 64 + b"\n")
    with pytest.raises(ValueError, match="is of format 4, this version of pyro-mnar reads formats up to 3: update it"):
        Fit.load(path)
    torch.save({"weights": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="got another of torch's"):
        Fit.load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../outside", "x")
    with pytest.raises(ValueError, match=str(path)):
        Fit.load(path)
    assert not (tmp_path.parent / "outside").exists()


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("is_new_format", [True, False])
def test_a_pickle_bomb_does_not_go_off(is_new_format: bool, tmp_path: Path) -> None:
    path, crater = tmp_path / "fit", tmp_path / "crater"
    archive = io.BytesIO()
    torch.save({"format": 1, "tensors": Bomb(crater), "plain": "{}"}, archive)
    content = archive.getvalue()
    head = f"pyro-mnar fit 3 {hashlib.sha256(content).hexdigest()}\n".encode() if is_new_format else b""
    path.write_bytes(head + content)
    with pytest.raises(ValueError, match="holds more than tensors and plain data; none of it was run"):
        Fit.load(path)
    assert not crater.exists()
    pickle.loads(pickle.dumps(Bomb(crater)))  # the test can fail: elsewhere it does go off
    assert crater.exists()


@pytest.mark.parametrize("description", [["os", "system"], ["models", "nn"], ["training", "Fit"]])
def test_a_file_names_none_but_our_classes(description: list[str], tmp_path: Path) -> None:
    path = tmp_path / "fit"
    Fit(GINA(TABLE, latent_dim=1), ZeroImpute(TABLE, 1, hidden=[2]), TABLE.schema).save(path)
    tensors, plain = files.read(path)
    assert plain is not None
    plain["recipe"]["model"]["class"] = description
    files.write(path, tensors, plain)
    with pytest.raises(ValueError, match=f"{path}.*got {description[0]}.{description[1]}"):
        Fit.load(path)


def test_an_expression_in_a_file_is_no_code(tmp_path: Path) -> None:
    """The digest is right: whoever made the file so made it too."""
    path, crater = tmp_path / "fit", tmp_path / "crater"
    frame = TABLE.frame.assign(twice=2 * TABLE.frame["x1"])
    table = Table.from_frame(frame, auxiliary=["u0"], not_applicable={"x0": "x1 == 7"}, derived={"twice": "x1 * 2"})
    Fit(GINA(table, latent_dim=1), ZeroImpute(table, 1, hidden=[2]), table.schema).save(path)
    tensors, plain = files.read(path)
    for formula in ("x1 == 7", "x1 * 2"):
        for code in (f"x1.to_csv('{crater}')", "@pd", "[x for x in (1, 2)]", "x1 + u0", 3, None):
            changed = json.loads(json.dumps(plain).replace(json.dumps(formula), json.dumps(code)))
            assert changed != plain
            files.write(path, tensors, changed)
            with pytest.raises(ValueError, match=f"{path}: cannot be read: .*[Ee]xpected"):
                Fit.load(path)
    assert not crater.exists()


CHANGES: dict[str, Any] = {
    "no fits": lambda tensors, plain: tensors.update(fits=[]),
    "no tensors": lambda tensors, plain: tensors.clear(),
    "a fit that is none": lambda tensors, plain: tensors.update(fits=[None]),
    "a number in place of a tensor": lambda tensors, plain: tensors["fits"][0]["guide"].update({"x": 3.0}),
    "a parameter of another shape": lambda tensors, plain: next(iter(tensors["fits"])).update(model={}),
    "other positions of columns": lambda tensors, plain: [
        value.add_(1) for value in tensors["fits"][0]["model"].values() if value.dtype == torch.int64
    ],
    "fractions for positions of columns": lambda tensors, plain: [
        tensors["fits"][0]["model"].update({name: value * 1.0})
        for name, value in list(tensors["fits"][0]["model"].items())
        if not value.is_floating_point()
    ],
    "two constraints for one fit": lambda tensors, plain: plain.update(constraints=[{}, {}]),
    "an unknown constraint": lambda tensors, plain: plain.update(constraints=[{"x": "real"}]),
    "a type that is none": lambda tensors, plain: plain.update(dtype="load"),
    "a type of whole numbers": lambda tensors, plain: plain.update(dtype="int64"),
    "no schema": lambda tensors, plain: plain.pop("schema"),
    "a schema of text": lambda tensors, plain: plain.update(schema="x"),
    "no recipe": lambda tensors, plain: plain.pop("recipe"),
    "a recipe that is a list": lambda tensors, plain: plain.update(recipe=[1]),
    "a recipe without a guide": lambda tensors, plain: plain["recipe"].pop("guide"),
    "a history of text": lambda tensors, plain: plain.update(history="x"),
    "notes of text": lambda tensors, plain: plain.update(notes="x"),
    "a mean of text": lambda tensors, plain: plain["schema"]["columns"][0].update(mean="x"),
    "a mean of NaN": lambda tensors, plain: plain["schema"]["columns"][0].update(mean=np.nan),
    "a deviation of nought": lambda tensors, plain: plain["schema"]["columns"][0].update(std=0.0),
    "a deviation of U below nought": lambda tensors, plain: plain["schema"]["auxiliaries"][0].update(std=-1.0),
    "a kind that is none": lambda tensors, plain: plain["schema"]["columns"][0].update(kind=None),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_whole_file_that_holds_something_else_is_refused_by_its_name(change: str, tmp_path: Path) -> None:
    path = tmp_path / "fit"
    Fit(GINA(TABLE, latent_dim=1), ZeroImpute(TABLE, 1, hidden=[2]), TABLE.schema).save(path)
    tensors, plain = files.read(path)
    assert plain is not None
    CHANGES[change](tensors, plain)
    files.write(path, tensors, plain)
    with pytest.raises(ValueError, match=f"^{path}: ") as caught:
        Fit.load(path)
    assert "\n" not in str(caught.value)


def test_other_samples_of_a_posterior_are_refused_by_the_file_s_name(tmp_path: Path) -> None:
    path = tmp_path / "fit"
    model = GINA(TABLE, latent_dim=1)
    Fit(model, FromModel(TABLE, 1), TABLE.schema).save(path)
    tensors, plain = files.read(path)
    assert plain is not None
    Fit.load(path)
    tensors["fits"][0]["guide"]["_extra_state"] = 3
    files.write(path, tensors, plain)
    with pytest.raises(ValueError, match=f"^{path}: "):
        Fit.load(path)


def test_a_file_of_format_1_is_still_read() -> None:
    frame = pd.DataFrame({"age": [40.0], "income": [np.nan], "town": ["Ely"]})
    content = torch.load(FORMAT_1, weights_only=True)
    schema = type(TABLE.schema).from_dict(content["schema"])
    torch.set_default_dtype(torch.float32)
    try:
        with pytest.raises(ValueError, match=r"it is of an earlier format.*model=\.\.\."):
            Fit.load(FORMAT_1)
        loaded = Fit.load(FORMAT_1, GINA(schema, latent_dim=1), ZeroImpute(schema, 1, hidden=[4]))
        mechanism = loaded.model.mechanism
        others = {name: v for name, v in loaded.model.state_dict().items() if not name.startswith("mechanism.raw")}
        total = sum(value.double().sum() for value in (*others.values(), mechanism.slope, mechanism.intercept))
        assert total.item() == pytest.approx(-1.7678391700610518)
        assert list(loaded.history["epoch"]) == [1, 2]
        assert impute(loaded, frame, num_draws=2).mean().notna().all(axis=None)
    finally:
        torch.set_default_dtype(torch.float64)


FORMAT_2 = {  # slopes and intercepts of the mechanisms that were written, the fit's and its bootstrap's
    "mechanism": [
        ([0.14792168173698575, -0.08084217494730235, -1.022207820300443],
         [-2.059404363686038, -1.0015168247528738, 0.5467354768401527]),
    ],
    "graph": [
        ([-1.4151183481186445, -2.5, -2.7971907907417535],
         [3.0819922164890866, -0.5868578115218928, -4.357578764149115]),
        ([-0.8233574030186546, -2.5, 0.7462292683649991],
         [-1.7133491865927486, 2.201208341806854, -2.1423747262182946]),
        ([-0.18691212504546137, -2.5, -1.4369600847200696],
         [0.3837388549580493, 2.5275894506471706, -2.58087020635694]),
    ],
}  # fmt: skip


@pytest.mark.parametrize("made", FORMAT_2)
def test_a_file_of_format_2_has_the_lines_that_were_written(made: str) -> None:
    loaded = Fit.load(FORMAT_1.with_name(f"format_2_{made}.fit"))
    fits = [loaded, *loaded.bootstrap]
    for one, (slope, intercept) in zip(fits, FORMAT_2[made], strict=True):
        mechanism: Any = one.model.mechanism
        found = mechanism.own_slope if made == "graph" else mechanism.slope
        torch.testing.assert_close(found, torch.tensor(slope))
        torch.testing.assert_close(mechanism.intercept, torch.tensor(intercept))


def test_an_interrupted_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "fit"
    result = Fit(GINA(TABLE, latent_dim=1), ZeroImpute(TABLE, 1, hidden=[2]), TABLE.schema)
    result.save(path)
    old = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        result.save(path)
    assert path.read_bytes() == old and [file.name for file in tmp_path.iterdir()] == ["fit"]


def test_training_goes_on_from_another_fit(tmp_path: Path) -> None:
    options: dict[str, Any] = {"epochs": 3, "progress": False}
    first = fit(GINA(TABLE, latent_dim=1, seed=0), ZeroImpute(TABLE, 1, hidden=[3], seed=0), TABLE, **options)
    first.save(tmp_path / "fit")
    reached = [parameter.detach().clone() for parameter in parameters_of(first)]
    pair = GINA(TABLE, latent_dim=1, seed=5), ZeroImpute(TABLE, 1, hidden=[3], seed=5)
    second = fit(*pair, TABLE, start=first, learning_rate=1e-12, **options)
    assert list(second.history["epoch"]) == [1, 2, 3, 4, 5, 6]
    for one, two in zip(reached, parameters_of(second), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-9)
    assert all(map(torch.equal, reached, parameters_of(first)))
    loaded = Fit.load(tmp_path / "fit")
    third = fit(loaded.model, loaded.guide, TABLE, start=loaded, **options)
    assert third.model is loaded.model and len(third.history) == 6


def test_what_training_cannot_go_on_from() -> None:
    first = Fit(GINA(TABLE, latent_dim=1), ZeroImpute(TABLE, 1), TABLE.schema)
    other = Table.from_frame(TABLE.frame * 2, auxiliary=["u0"])
    options: dict[str, Any] = {"start": first, "epochs": 1, "progress": False}
    with pytest.raises(ValueError, match=r"start: expected a fit of a table with this table's schema"):
        fit(GINA(other, latent_dim=1), ZeroImpute(other, 1), other, **options)
    with pytest.raises(ValueError, match="start: its model has other parameters than the model given"):
        fit(GINA(TABLE, latent_dim=2), ZeroImpute(TABLE, 2), TABLE, **options)
    with pytest.raises(ValueError, match="start: expected no restarts"):
        fit(first.model, first.guide, TABLE, restarts=2, **options)
