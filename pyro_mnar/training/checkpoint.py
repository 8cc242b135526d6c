"""Checkpoints: what training has reached goes to a file now and then, and training goes on from it to the same numbers.

The file holds all that epochs to come depend on: parameters, the optimiser's moments, random states, the history, the
best parameters so far, and whether steps were captured; of every initialisation and bootstrap fit.  What the call and
the table said stands beside it and is compared, so that nothing goes on from another's state.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import platform
import time
import warnings
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pyro_mnar.messages import in_line, path_of
from pyro_mnar.tables.whole_files import remove_unfinished, write_atomically
from pyro_mnar.training import files

SECONDS = 10.0  # between two checkpoints, where nobody says how many epochs
PREVIOUS = ".previous"  # what the name of the checkpoint before ends with

log = logging.getLogger(__name__)


class Checkpoint:
    """The file of one call of :func:`~pyro_mnar.fit`; the one before it is kept too.

    Args:
        path: The file; the one before has ``.previous`` behind its name.
        every: Epochs between two checkpoints; by default there is one as soon as ten seconds have passed.
        settings: What the call and the table say, by name: plain data, of which every part is compared.
        modules: Model and guide; where the file is there, they get the parameters that they had at the first call.
        resume: Whether to go on from the file, if it is there (:func:`refuse_place` says where it must not be).

    Raises:
        ValueError: If the file cannot be read and the one before cannot either; if it was made by another call: names
            the setting.
        OSError: If nothing can be written there.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        every: int | None,
        settings: dict[str, Any],
        modules: Sequence[Any],
        *,
        resume: bool,
    ) -> None:
        self.path, self.every, self.settings = Path(path), every, settings
        self.previous = _before(self.path)
        self.stages: dict[str, Any] = {}
        self._initial = [_state(module) for module in modules]
        self._unwritten, self._written_at = 0, time.monotonic()
        if self.path.exists() or self.previous.exists():
            remove_unfinished(self.path)
            saved = self._read()
            self.stages, self._initial = saved["stages"], saved["initial"]
            for module, state in zip(modules, self._initial, strict=True):
                if state:
                    module.load_state_dict(state, strict=False)  # names and shapes are among the settings
        elif resume:
            log.info("checkpoint: %s is not there yet: training starts", self.path)
        self._write()  # a folder that cannot be written to is known before the training

    def stage(self, name: str) -> Stage:
        """A part of the training that has runs of its own."""
        return Stage(self, name)

    def keep(self, name: str, state: dict[str, Any]) -> None:
        """Note a stage's state after an epoch, and write if it is time to."""
        self.stages[name] = state
        self._unwritten += 1
        late = time.monotonic() - self._written_at > SECONDS
        if late if self.every is None else self._unwritten >= self.every:
            self._write()

    def flush(self) -> None:
        """Write what has been noted and is not written yet."""
        if self._unwritten:
            self._write()

    def _write(self) -> None:
        tensors: list[Tensor] = []
        state = _without_tensors({"stages": self.stages, "initial": self._initial}, tensors)
        plain = {"settings": self.settings, "made_by": _made_by(), "state": state}
        content = files.content_of(tensors, plain, files.CHECKPOINT)
        try:
            write_atomically(self.path, content, self.previous)
        except OSError as error:
            raise OSError(error.errno, f"checkpoint: {error.strerror}") from None
        self._unwritten, self._written_at = 0, time.monotonic()

    def _read(self) -> dict[str, Any]:
        try:
            tensors, plain = files.read(self.path, files.CHECKPOINT)
        except (ValueError, FileNotFoundError) as error:
            if not self.previous.exists():
                raise
            try:
                tensors, plain = files.read(self.previous, files.CHECKPOINT)
            except ValueError:
                raise ValueError(f"{error}; nor can {self.previous.name} be read") from None
            log.warning("checkpoint: going on from %s, the one before (%s)", self.previous, error)
            if self.path.exists():
                self.path.unlink()  # else it would take the good one's place
        assert plain is not None
        for name in self.settings:
            saved, own = plain["settings"].get(name), self.settings[name]
            if not _same(saved, own):
                raise ValueError(f"resume: {_difference(name, saved, own)}")
        made_by = _made_by()
        changed = [name for name, value in made_by.items() if plain["made_by"].get(name) != value]
        if changed:
            was, now = ({name: made[name] for name in changed} for made in (plain["made_by"], made_by))
            warnings.warn(
                f"resume: the checkpoint was made with {_listed(was)}, this is {_listed(now)}: numbers may differ in"
                " their last digits from those of training that was not interrupted",
                stacklevel=4,
            )
        return _with_tensors(plain["state"], tensors)


def refuse_place(path: Any, *, resume: bool) -> None:
    """Refuse what is no path, and a file that is there and is not to be gone on from.

    Raises:
        TypeError: If it is no path.
        ValueError: If the file, or the one before, is there and ``resume`` is not asked for.
    """
    path = path_of("checkpoint", path)
    previous = _before(path)
    there = [file for file in (path, previous) if file.exists()]
    if there and not resume:
        raise ValueError(
            f"checkpoint: {in_line(there[0])} is there already: go on from it with resume=True, or remove it (and"
            f" {in_line(previous.name)}), or choose another file"
        )


def _before(path: Path) -> Path:
    """The file that keeps the checkpoint before."""
    return path.with_name(path.name + PREVIOUS)


class Stage:
    """Initialisations that are trained together or one after the other.

    Args:
        checkpoint: The file that keeps them.
        name: What the stage is called there.

    Attributes:
        members: The states of runs that were trained in turn, as far as any began.
        together: The state of runs that were trained at once, if they were.
    """

    def __init__(self, checkpoint: Checkpoint, name: str) -> None:
        self._checkpoint, self._name = checkpoint, name
        saved = checkpoint.stages.get(name)
        self.together: Mapping[str, Any] | None = saved["together"] if saved else None
        self.members: list[Mapping[str, Any]] = list(saved["members"]) if saved else []

    @property
    def is_begun(self) -> bool:
        """Whether there is anything to go on from."""
        return bool(self.members) or self.together is not None

    def member(self, number: int) -> Mapping[str, Any] | None:
        """The state of a run among those that are trained in turn."""
        return self.members[number] if number < len(self.members) else None

    def keep_member(self, number: int, state: Mapping[str, Any]) -> None:
        """Note the state of a run that is trained by itself."""
        self.members[number:] = [state]
        self._checkpoint.keep(self._name, {"members": list(self.members), "together": None})

    def keep_together(self, state: Mapping[str, Any]) -> None:
        """Note the state of runs that are trained at once."""
        self._checkpoint.keep(self._name, {"members": [], "together": state})

    def flush(self) -> None:
        """Write what has been noted and is not written yet."""
        self._checkpoint.flush()


def _without_tensors(value: Any, tensors: list[Tensor]) -> Any:
    """The same with each tensor's number in its place, and the tensor in the list."""
    if isinstance(value, Tensor):
        tensors.append(value.detach().cpu())
        return {"tensor": len(tensors) - 1}
    if isinstance(value, Mapping):
        return {name: _without_tensors(one, tensors) for name, one in value.items()}
    if isinstance(value, list):
        return [_without_tensors(one, tensors) for one in value]
    return value


def _with_tensors(value: Any, tensors: list[Tensor]) -> Any:
    """The inverse of :func:`_without_tensors`."""
    if isinstance(value, dict):
        if value.keys() == {"tensor"}:
            return tensors[value["tensor"]]
        return {name: _with_tensors(one, tensors) for name, one in value.items()}
    return [_with_tensors(one, tensors) for one in value] if isinstance(value, list) else value


def _made_by() -> dict[str, str]:
    """What the last digits of numbers may depend on."""
    packages = {name: importlib.metadata.version(name) for name in ("torch", "pyro-ppl", "numpy")}
    return {**packages, "machine": platform.machine(), "threads": str(torch.get_num_threads())}


def _listed(made_by: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in made_by.items())


def _state(module: Any) -> dict[str, Tensor]:
    state = module.state_dict() if isinstance(module, nn.Module) else {}
    return {name: value.detach().clone() for name, value in state.items() if isinstance(value, Tensor)}


def _same(saved: Any, own: Any) -> bool:
    """Whether both are the same data, NaN included."""
    first, second = (json.dumps(value, sort_keys=True) for value in (saved, own))
    return first == second


def _difference(name: str, saved: Any, own: Any) -> str:
    """In words, what of a setting is another in the checkpoint."""
    if isinstance(saved, dict) and isinstance(own, dict):
        part = next(key for key in {**saved, **own} if not _same(saved.get(key), own.get(key)))
        return _difference(f"{name}, {part}", saved.get(part), own.get(part))
    cure = "call fit as the interrupted run did, or remove the checkpoint to start anew"
    texts = [repr(value) for value in (saved, own)]
    if max(map(len, texts)) > 60:
        return f"{name}: is not what the checkpoint was made with: {cure}"
    return f"{name}: the checkpoint was made with {texts[0]}, got {texts[1]}: {cure}"
