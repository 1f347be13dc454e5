"""A trained method that is loaded when it is first used."""

from functools import cached_property
from pathlib import Path

from methods.base import PoseMethod
from methods.checkpoints import find_checkpoint, load_method
from noise2pose.errors import InputError

# One name for everybody: an answer depends on keypoints and image alone, not on what they are called or on their order.
SAMPLE = "person"


class TrainedModel:
    """A trained method by name, on a device.

    Args:
        name: of a shipped model, such as `diffpose-people`; or a model folder, or the file of a checkpoint.
        device: cpu, cuda or mps.
        selector: of a method that has several, how it chooses its answer; None for the one of the checkpoint.

    Raises:
        InputError: if there is no such model.
    """

    def __init__(self, name: str | Path, device: str = "cpu", selector: str | None = None) -> None:
        self.name = str(name)
        self.path = find_checkpoint(name)
        self.device = device
        self.selector = selector

    @cached_property
    def method(self) -> PoseMethod:
        """The method, in evaluation mode.

        Raises:
            InputError: if the file does not hold a whole method that answers with poses, or selector or device cannot
                be used.
        """
        method = load_method(self.name)
        if self.selector is not None:
            method.choose(self.selector)
        try:
            method.to(self.device)
        except (RuntimeError, AssertionError) as error:
            raise InputError(f"device {self.device} cannot be used ({error})") from error
        if method.body is None and method.input == "image":
            raise InputError(
                f"{method.title} answers with no pose: give the checkpoint of a method that was trained from it"
            )
        return method
