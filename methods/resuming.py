"""Where a resumed training goes on: within its epoch, or at its beginning if the batches are others than before."""

from typing import Any

import lightning as L
from lightning.pytorch.utilities import rank_zero_info


def samples_of_batch(trainer: L.Trainer) -> int | None:
    """Samples of a training batch over all processes; None if the loader does not say."""
    of_process = getattr(getattr(trainer.train_dataloader, "sampler", None), "batch_size", None)
    return None if of_process is None else of_process * trainer.world_size


def restart_epoch(trainer: L.Trainer) -> None:
    """Resumes at the first batch of the epoch, because batches are others than those that the checkpoint counts."""
    loader: Any = trainer.train_dataloader
    loader.load_state_dict({**loader.state_dict(), "batches": 0})
    trainer.fit_loop.restarting = False
    trainer.fit_loop.epoch_loop.batch_progress.current.reset()
    trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step
    rank_zero_info(f"The set-up has other batches than the checkpoint: epoch {trainer.current_epoch} starts again.")
