"""Compute the accelerator memory that a training step of DPMesh takes; no tensor is allocated and no GPU is needed.

    python -m scripts.benchmarks.dpmesh_memory

The step runs on fake tensors, which have sizes and no data, and the sizes of all live tensors are added up. The
workspaces of a GPU's convolutions, fragmentation, and the context of about half a gigabyte are not included.
"""

import argparse
import weakref
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from methods.dpmesh.conditions import Conditions
from methods.dpmesh.losses import reasoning_losses
from methods.dpmesh.networks import MeshNetwork, make_network, make_teacher
from methods.dpmesh.regressor.pose_heads import Rot6dHead
from methods.dpmesh.settings import SIZES, Size, sides_of

TRAINING_JOINTS = 17
_NORMALISATION = (nn.GroupNorm, nn.LayerNorm)


class Memory(NamedTuple):
    """Memory of one training step, bytes.

    Attributes:
        frozen: weights that are not trained.
        trained: trained weights; gradients take as much, AdamW's state twice as much, moving averages as much again.
        teacher: weights of the teacher that are not shared with the student.
        kept: tensors that the forward pass keeps for the backward pass.
        peak: largest total, moving averages included.
    """

    frozen: int
    trained: int
    teacher: int
    kept: int
    peak: int


def training_memory(
    batch: int, size: Size = "sd15", autocast: bool = False, checkpointing: bool = False, reasoning: bool = False
) -> Memory:
    """Memory of a training step with the paper's settings.

    Args:
        batch: people.
        size: of the network.
        autocast: mixed precision with bfloat16.
        checkpointing: compute activations of the backbone twice instead of keeping them.
        reasoning: train a student with a frozen teacher; else one network alone.
    """
    sides = sides_of(size)
    with torch.device("meta"):
        network = training_network(size, maps=(8, 16, 32), gradient_checkpointing=checkpointing)
        teacher = make_teacher(network).eval().requires_grad_(False) if reasoning else None
    with FakeTensorMode(), Alive() as alive:
        _make_fake([network] if teacher is None else [network, teacher])
        for module in network.modules():
            if isinstance(module, _NORMALISATION):  # in float32 under mixed precision on a GPU, but not on a CPU
                module.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(), *inputs[1:]))
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        num_trained = _bytes(trained)
        frozen = _bytes(parameter for parameter in network.parameters() if not parameter.requires_grad)
        optimizer = torch.optim.AdamW(trained, foreach=True)  # as on a GPU
        image = torch.rand(batch, 3, sides.image, sides.image)
        maps = torch.rand(batch, TRAINING_JOINTS, sides.latents, sides.latents)
        joints = torch.rand(batch, TRAINING_JOINTS, 3)
        conditions = Conditions(joints[..., :2], joints[..., 2] > 0.2, maps)
        kept = 0
        for _ in range(2):  # the first step creates the optimizer's state
            before = alive.now
            loss = _loss(network, teacher, image, conditions, autocast)
            kept = alive.now - before
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            del loss
    return Memory(frozen, num_trained, 0 if teacher is None else num_trained, kept, alive.peak + num_trained)


def training_network(size: Size, **diffusion: Any) -> MeshNetwork:
    """All parts of the network as they are trained, with settings of the diffusion backbone."""
    head = Rot6dHead(SIZES[size].width, SIZES[size].num_decoder_layers)
    parts = {"uncertainty": False, "heatmaps": True, "context": "mlp2_visible"}
    return make_network("diffusion", size, head, TRAINING_JOINTS, **parts, diffusion=diffusion).train()


class Alive(TorchDispatchMode):
    """Adds up the memory of all live tensors, each storage once.

    Attributes:
        now: bytes.
        peak: largest value of `now` so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor):
                self._add(tensor.untyped_storage())
        return output

    def _add(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known.add(key)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def _make_fake(networks: Iterable[nn.Module]) -> None:
    """Replaces weights on the meta device, which mixed precision does not support, by fake ones on the CPU."""
    made: dict[int, tuple[Tensor, Tensor]] = {}  # also holds the old ones, so that their ids are not used again
    for module in (module for network in networks for module in network.modules()):
        stores: Any = (module._parameters, module._buffers)
        for tensors in stores:
            for name, old in tensors.items():
                if old is None:
                    continue
                if id(old) not in made:
                    new = torch.empty(old.shape, dtype=old.dtype)
                    if isinstance(old, nn.Parameter):
                        new = nn.Parameter(new, old.requires_grad)
                    made[id(old)] = new, old
                tensors[name] = made[id(old)][0]


def _loss(
    network: MeshNetwork, teacher: MeshNetwork | None, image: Tensor, conditions: Conditions, autocast: bool
) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        estimate, levels = network(image, conditions)
    outputs = (estimate.rotations, estimate.betas, estimate.camera, estimate.joint_img, *levels)
    loss = torch.stack([output.float().square().mean() for output in outputs]).sum()
    if teacher is not None:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            target = teacher.levels(image, conditions)
        loss = loss + torch.stack(list(reasoning_losses(levels, target, "both", 0.5).values())).sum()
    return loss


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def main(args: Sequence[str] | None = None) -> None:
    """Prints a table in Markdown, in GB of 10^9 bytes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(SIZES), default="sd15", help="of the network (default: sd15)")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16], help="people in a batch (default: 1 16)")
    arguments = parser.parse_args(args)
    print("| precision | checkpointing | reasoning | batch | frozen | trained | teacher | kept | peak |")
    print("|---|---|---|---|---|---|---|---|---|")
    for autocast, checkpointing in ((False, False), (True, False), (True, True)):
        for reasoning in (False, True):
            for batch in arguments.batch:
                memory = training_memory(batch, arguments.size, autocast, checkpointing, reasoning)
                options = ("yes" if on else "no" for on in (checkpointing, reasoning))
                numbers = (f"{number / 1e9:.2f}" for number in memory)
                cells = ("bf16" if autocast else "fp32", *options, str(batch), *numbers)
                print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
