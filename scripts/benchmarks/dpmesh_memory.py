"""Compute the accelerator memory that a training step of DPMesh takes; no tensor is allocated and no GPU is needed.

    python -m scripts.benchmarks.dpmesh_memory
    python -m scripts.benchmarks.dpmesh_memory --devices 1 2 4 8    what configs/trainers/fsdp.yaml shares out

The step runs on fake tensors, which have sizes and no data, and the sizes of all live tensors are added up. The
workspaces of a GPU's convolutions, fragmentation, and the context of about half a gigabyte are not included.
"""

import argparse
import copy
import weakref
from collections.abc import Sequence
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
from methods.dpmesh.sharding import blocks_of

TRAINING_JOINTS = 17
_NORMALISATION = (nn.GroupNorm, nn.LayerNorm)


class Memory(NamedTuple):
    """Memory of one training step, bytes."""

    frozen: int  # weights that are not trained
    trained: int  # weights; gradients take as much, AdamW's state twice as much, moving averages as much again
    teacher: int  # weights of the teacher that are not shared with the student
    kept: int  # tensors that the forward pass keeps for the backward pass
    peak: int  # largest total, moving averages included


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
        network, teacher = _made_fake([network, teacher])
        for module in network.modules():
            if isinstance(module, _NORMALISATION):  # in float32 under mixed precision on a GPU, but not on a CPU
                module.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(), *inputs[1:]))
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        num_trained = sum(parameter.nbytes for parameter in trained)
        frozen = sum(parameter.nbytes for parameter in network.parameters()) - num_trained
        optimizer = torch.optim.AdamW(trained, foreach=True)  # as on a GPU
        image = torch.rand(batch, 3, sides.image, sides.image)
        maps = torch.rand(batch, TRAINING_JOINTS, sides.latents, sides.latents)
        present = torch.rand(batch, TRAINING_JOINTS) > 0.2
        conditions = Conditions(torch.rand(batch, TRAINING_JOINTS, 2), present, maps)
        for parameter in trained:  # a step with any gradients creates the optimizer's state
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        optimizer.zero_grad()
        before = alive.now
        loss = _loss(network, teacher, image, conditions, autocast)
        kept = alive.now - before
        loss.backward()
        optimizer.step()
    return Memory(frozen, num_trained, 0 if teacher is None else num_trained, kept, alive.peak + num_trained)


def training_network(size: Size, **diffusion: Any) -> MeshNetwork:
    """All parts of the network as they are trained, with settings of the diffusion backbone."""
    head = Rot6dHead(SIZES[size].width, SIZES[size].num_decoder_layers)
    parts = {"uncertainty": False, "heatmaps": True, "context": "mlp2_visible"}
    return make_network("diffusion", size, head, TRAINING_JOINTS, **parts, diffusion=diffusion).train()


def sharded_memory(devices: int, size: Size = "sd15") -> tuple[int, int]:
    """Memory of weights, gradients and AdamW's state with the whole U-Net trained, on each of several devices.

    Args:
        devices: that share them (methods/dpmesh/sharding.py).
        size: of the network.

    Returns:
        Bytes that a device keeps, and bytes of weights and gradients of the blocks that it gathers at once at most.
    """
    with torch.device("meta"):
        network = training_network(size, maps=(8, 16, 32), unet_training="full")
    kept = sum(p.nbytes * (4 if p.requires_grad else 1) for p in network.parameters())
    if devices == 1:
        return kept, 0
    blocks = [sum(p.nbytes for p in block.parameters()) for block in blocks_of(network)]
    outside = sum(p.nbytes for p in network.parameters()) - sum(blocks)
    return -(-kept // devices), 2 * (outside + 2 * max(blocks))  # the next block is gathered while one computes


class Alive(TorchDispatchMode):
    """Adds up the memory of all live tensors, each storage once: bytes `now`, and their `peak` so far."""

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


def _made_fake(networks: list[Any]) -> list[Any]:
    """Networks of the meta device, which mixed precision does not support, with fake weights on the CPU."""
    whole = nn.ModuleList(networks)
    made: dict[int, Any] = {id(old): torch.empty(old.shape, dtype=old.dtype) for old in whole.buffers()}
    for old in whole.parameters():
        made[id(old)] = nn.Parameter(torch.empty(old.shape, dtype=old.dtype), old.requires_grad)
    return copy.deepcopy(networks, made)


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


def main(args: Sequence[str] | None = None) -> None:
    """Prints a table in Markdown, in GB of 10^9 bytes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(SIZES), default="sd15", help="of the network (default: sd15)")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16], help="people in a batch (default: 1 16)")
    parser.add_argument("--devices", type=int, nargs="+", help="that share weights and AdamW's state, instead of steps")
    arguments = parser.parse_args(args)
    if arguments.devices:
        print("| devices | kept by each | gathered at once |\n|---|---|---|")
        for devices in arguments.devices:
            kept, gathered = sharded_memory(devices, arguments.size)
            print(f"| {devices} | {kept / 1e9:.2f} | {gathered / 1e9:.2f} |")
        return
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
