"""DPMesh's networks shared out over several devices: each keeps a part of the weights, gradients and AdamW's state.

PyTorch's `fully_shard` gathers the weights of a block when it is computed, and drops them afterwards.
"""

from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

from methods.dpmesh.networks import MeshNetwork


def shard(network: MeshNetwork, world_size: int, device_type: str) -> None:
    """Shares out a network in place, once; the blocks that hold nearly all of its weights one by one.

    Args:
        network: with its initial weights, the same in all processes.
        world_size: number of processes.
        device_type: that they compute on.
    """
    if isinstance(network, FSDPModule):
        return
    mesh = init_device_mesh(device_type, (world_size,))
    for block in blocks_of(network):
        fully_shard(block, mesh=mesh)
    fully_shard(network, mesh=mesh)
    for name in ("levels", "attention"):  # which also compute with all weights
        register_fsdp_forward_method(network, name)


def blocks_of(network: MeshNetwork) -> list[nn.Module]:
    """The blocks that are gathered one by one."""
    return [module for module in network.modules() if isinstance(module, BasicTransformerBlock | ResnetBlock2D)]
