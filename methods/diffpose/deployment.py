"""What of DiffPose can be an ONNX graph."""

from methods.base import PoseMethod
from methods.diffpose.module import DiffPose
from methods.onnx_graphs import Deployable


def deployable(method: PoseMethod) -> Deployable:
    """The answer of one hypothesis: the mixtures of several are fitted to each pose, and serve their spread alone."""
    if not isinstance(method, DiffPose) or method.num_hypotheses == 1 or method.denoiser_steps == 0:
        return Deployable(method)
    method.num_hypotheses = 1
    about = "the answer of one hypothesis, from the mean of the uncertain poses; no hypotheses and no uncertainty"
    return Deployable(method, about)
