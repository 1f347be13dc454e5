"""What of DiffAnnot can be an ONNX graph."""

import torch

from methods.base import PoseMethod
from methods.diffannot.module import DiffAnnot
from methods.diffannot.states import STATE_SIZE, condition_size
from methods.onnx_graphs import Deployable


def deployable(method: PoseMethod) -> Deployable:
    """The front end, and the denoiser as a network: the search and the guidance follow gradients or compare bodies."""
    assert isinstance(method, DiffAnnot)
    inputs = {"state": torch.linspace(-1.0, 1.0, STATE_SIZE)[None], "time": torch.tensor([method.times // 2])}
    if size := condition_size(method.condition, method.skeleton.num_joints):
        inputs["condition"] = torch.linspace(-1.0, 1.0, size)[None]
    about = (
        f"the body of the front end, {method.frontend.title}, which is the answer of selector none; the refinement "
        f"({method.selector}) searches or follows gradients and is in no graph, its denoiser is denoiser.onnx"
    )
    return Deployable(method.frontend, about, {"denoiser": (method.denoiser, inputs, "noise")})
