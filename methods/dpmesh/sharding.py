"""DPMesh's networks shared out over several devices: each keeps a part of the weights, gradients and AdamW's state.

PyTorch's `fully_shard` gathers the weights of a block when it is computed, and drops them afterwards.
"""

from collections.abc import Sequence

from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

from methods.dpmesh.networks import MeshNetwork


def shard(networks: Sequence[MeshNetwork | None], world_size: int, device_type: str) -> None:
    """Shares out networks in place, once; the blocks that hold nearly all of their weights one by one.

    Args:
        networks: with their initial weights, the same in all processes.
        world_size: number of processes.
        device_type: that they compute on.
    """
    mesh = init_device_mesh(device_type, (world_size,))
    for network in networks:
        if network is None or isinstance(network, FSDPModule):
            continue
        for block in blocks_of(network):
            fully_shard(block, mesh=mesh)
        fully_shard(network, mesh=mesh)
        register_fsdp_forward_method(network, "levels")  # which also computes with all weights


def gather(method: nn.Module) -> None:
    """Keeps all weights in each process, which may then compute as often as its share of an evaluation needs."""
    for module in method.modules():
        if isinstance(module, FSDPModule):
            module.set_reshard_after_forward(False, recurse=False)
            module.unshard()


def share(method: nn.Module) -> None:
    """Drops what `gather` has gathered."""
    for module in method.modules():
        if isinstance(module, FSDPModule):
            module.set_reshard_after_forward(not isinstance(module, MeshNetwork), recurse=False)
            module.reshard()


def blocks_of(network: MeshNetwork) -> list[nn.Module]:
    """The blocks that are gathered one by one."""
    return [module for module in network.modules() if isinstance(module, BasicTransformerBlock | ResnetBlock2D)]
