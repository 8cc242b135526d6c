"""Training on many devices and machines: model, guide and objective as a Lightning module.

Lightning averages the gradient over ranks.  The loss of a rank is minus its estimate of the bound over N, with the
factor N/B of its own minibatch: an average over that minibatch's rows.  With equal minibatches the average over ranks
is therefore the average over all their rows, and the bound keeps its scale whatever the number of ranks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pyro_mnar.infer.arguments import check_callable
from pyro_mnar.infer.objective import ImportanceWeightedELBO
from pyro_mnar.infer.parameters import module_parameters, unmirrored
from pyro_mnar.infer.session import Session
from pyro_mnar.messages import check_is, positive_number, seed_of
from pyro_mnar.scale.extra import needed
from pyro_mnar.scale.parquet import ParquetRows
from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.schema import Schema
from pyro_mnar.training.fitted import Fit

try:
    from lightning import LightningModule as _LightningModule
except ImportError:  # without the extra [scale] the package imports all the same, and making one says what to install
    _LightningModule = nn.Module


class MNARModule(_LightningModule):  # pyright: ignore[reportGeneralTypeIssues]
    """A model and a guide for ``lightning.Trainer``, with its strategies, accumulation, checkpoints and loggers.

    Logs ``bound`` (and ``held_out_bound`` of validation batches), in nats per row.  Batches come from
    :meth:`ParquetRows.loader` or from anything that yields :class:`~pyro_mnar.Batch`.

    Args:
        model: The model, a module.
        guide: Its guide; one of the two has parameters, and both keep theirs as modules do: what ``pyro.param`` makes
            is invisible to Lightning, and refused.
        schema: Columns and units of the table.
        objective: The bound; by default with five particles.
        learning_rate: Adam's, at the start; it falls to zero as a cosine over the trainer's steps.
        seed: Of the noise; every rank and every minibatch has noise of its own, the same after a restart from a
            checkpoint.

    Raises:
        ImportError: If Lightning is not installed.
        ValueError: If there is nothing to train, or a parameter that no module owns.
    """

    def __init__(
        self,
        model: Callable[[Batch], Any],
        guide: Callable[[Batch], Any],
        schema: Schema,
        objective: ImportanceWeightedELBO | None = None,
        *,
        learning_rate: float = 2e-2,
        seed: int = 0,
    ) -> None:
        needed("lightning")
        super().__init__()
        check_callable(model, "model")
        check_callable(guide, "guide")
        check_is("schema", schema, Schema)
        if objective is not None:
            check_is("objective", objective, ImportanceWeightedELBO)
        learning_rate, seed = positive_number("learning_rate", learning_rate), seed_of(seed)
        if not module_parameters(model, guide):
            raise ValueError("expected a model or a guide that is a module with parameters, got none to train")
        self.model, self.guide, self.schema = model, guide, schema
        self.objective = objective or ImportanceWeightedELBO(num_particles=5)
        self.learning_rate, self.seed = learning_rate, seed
        self._store: dict[str, Any] = {"params": {}, "constraints": {}}

    def fit(self) -> Fit:
        """What was trained, for :func:`~pyro_mnar.impute` and :meth:`~pyro_mnar.Fit.save`; on the CPU."""
        self.cpu()
        return Fit(self.model, self.guide, self.schema)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Minus the bound per row."""
        loss = self._loss(batch, self.current_epoch, batch_idx)
        self.log("bound", -loss.detach(), on_step=False, on_epoch=True, sync_dist=True, batch_size=len(batch))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the bound of held-out rows, on the same noise every epoch."""
        loss = self._loss(batch, 0, batch_idx)
        self.log("held_out_bound", -loss, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(batch))

    def configure_optimizers(self) -> Any:
        """Adam, and a schedule by the step."""
        optimiser = torch.optim.Adam(self.parameters(), lr=self.learning_rate)
        steps = max(int(self.trainer.estimated_stepping_batches), 1)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=steps)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """The rows, where the parameters are."""
        return batch.to(device)

    def on_train_epoch_start(self) -> None:
        """Tell :class:`ParquetRows` to take another order."""
        dataset = getattr(self.trainer.train_dataloader, "dataset", None)
        if isinstance(dataset, ParquetRows):
            dataset.epoch = self.current_epoch

    def _loss(self, batch: Batch, epoch: int, number: int) -> Tensor:
        # Noise depends on where training is and not on how it came there.
        state = np.random.SeedSequence([self.seed, self.global_rank, epoch, number]).generate_state(1)
        session = Session(int(state[0]), self.device, self._store)
        with session.running():
            loss = self.objective.differentiable_loss(self.model, self.guide, batch) / batch.size
        self._check_owners(session.store)
        return loss

    def _check_owners(self, store: dict[str, Any]) -> None:
        for name in unmirrored(store, self.model, self.guide):
            raise ValueError(
                f"parameter {name!r}: expected one that a module owns, so that every rank trains it and checkpoints"
                " hold it, got one of pyro.param: make it a PyroParam or an nn.Parameter"
            )
