"""What a training says when it starts: how many samples a step takes, and the learning rate."""

import lightning as L
from lightning.pytorch.callbacks import Callback

from methods.base import PoseMethod
from methods.resuming import samples_of_batch


class Announcement(Callback):
    """Prints the batch of all processes, the learning rate and the steps that are left; and what resuming changed."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        samples = samples_of_batch(trainer)
        if samples is None or not trainer.is_global_zero:
            return
        rates = {group.get("initial_lr", group["lr"]) for each in trainer.optimizers for group in each.param_groups}
        processes, batches = trainer.world_size, trainer.accumulate_grad_batches
        told = f"a step takes {samples * batches} samples"
        if processes * batches > 1:
            told += f" ({processes} processes, {samples // processes} samples each, {batches} times)"
        told += f"; learning rate {', '.join(f'{rate:g}' for rate in sorted(rates))}"
        print(f"{told}; {trainer.estimated_stepping_batches} steps in all, {trainer.global_step} done", flush=True)
        assert isinstance(pl_module, PoseMethod)
        before = pl_module.samples_before
        if before not in (None, samples):
            print(
                f"batches had {before} samples before, and have {samples} now; the learning rate is that of this "
                "command, not scaled with them",
                flush=True,
            )
