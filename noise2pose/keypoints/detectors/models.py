"""Detectors of people and of joints out of any model file, by what `description` knows of it.

Shape letters: H, W image; P people; J joints.
"""

from collections import Counter
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from noise2pose import skeletons
from noise2pose.errors import InputError
from noise2pose.keypoints.detectors import joint_heads, person_heads
from noise2pose.keypoints.detectors.contract import People, Poses, joined
from noise2pose.keypoints.detectors.description import ImageNetwork, names_in
from noise2pose.keypoints.detectors.networks import described
from noise2pose.keypoints.detectors.sampling import Window, around, cut, letterbox, part_of
from noise2pose.keypoints.detectors.suppression import suppress_boxes
from noise2pose.keypoints.detectors.tiles import LEVELS, SMALL, cut_off, tiles
from noise2pose.keypoints.joint_names import skeleton_of, skeleton_of_names

_MOST = 300  # people of an image, the most certain


class ModelPeople:
    """A network that finds objects, of which people are kept.

    Args:
        file: .onnx or .tflite, with a YAML file beside it if need be.
        tiled: whether overlapping tiles are searched too, where people are small in the input or nobody is found.

    Raises:
        InputError: if it is no such network.
    """

    def __init__(self, file: Path, tiled: bool = True) -> None:
        self._tiled = tiled
        self._network = ImageNetwork(file, "people", list(person_heads.HEADS), person_heads.recognise)
        about = self._network.description
        classes = {name: number for number, name in names_in(self._network.network.metadata, "names").items()}
        self._person = about.person_class if about.person_class is not None else classes.get("person", 0)
        try:  # a class that is not there, or outputs that are not of the layout, show now, not at the first image
            self(np.zeros((2, 2, 3), np.uint8))
        except (IndexError, RuntimeError, ValueError, AssertionError) as error:
            what = f"which is not {about.head} with a class {self._person}"
            answer = described(self._network.outputs)
            raise self._network.refuse(f"answers with {answer}, {what}", "head and person_class") from error

    def __call__(self, image: UInt8[np.ndarray, "H W 3"]) -> People:
        """The people of an image, the most certain first; boxes end at its border."""
        height, width = image.shape[:2]
        found = [self._search(image, _whole(image, self._network))]
        for level in range(1, LEVELS if self._tiled else 1):
            before = max(width, height) * 2.0 ** (1 - level)
            sides = (found[-1].boxes[:, 2:] - found[-1].boxes[:, :2]).amax(dim=1) / before
            squares = tiles(width, height, level)
            enough = float(sides.median()) >= SMALL if len(sides) else level > 1
            if enough or squares[0].side < max(self._network.size):
                break
            inside = []
            for square in squares:
                corner, extent = square.centre - square.side / 2.0, torch.full((2,), square.side)
                people = self._search(image, Window(corner, extent, self._network.size))
                inside.append(people.chosen(~cut_off(people.boxes, square, width, height)))
            found.append(joined(inside))
        people = joined(found)
        return people.chosen(suppress_boxes(people.boxes, people.scores, self._network.description.overlap)[:_MOST])

    def _search(self, image: np.ndarray, window: Window) -> People:
        outputs = self._network(cut(image, window, self._network.description.fill))
        head = self._network.description.head or ""
        boxes, scores = person_heads.HEADS[head](outputs, self._network.size, self._person)
        return _people(image, window, boxes, scores, self._network)[0]


class ModelJoints:
    """A network that finds the joints of one person in a part of the image.

    Args:
        file: .onnx or .tflite, with a YAML file beside it if need be.

    Raises:
        InputError: if it is no such network, or the order of its joints is unknown.
    """

    def __init__(self, file: Path) -> None:
        heads = [*joint_heads.SINGLE, *joint_heads.FINDS_PEOPLE]
        self.network = ImageNetwork(file, "joints", heads, joint_heads.recognise)
        self.finds_people = self.network.description.head in joint_heads.FINDS_PEOPLE
        try:  # outputs that are not of the layout show now, not at the first image
            self.skeleton, self._order = _order(self.network)
            image = np.zeros((2, 2, 3), np.uint8)
            self.search(image) if self.finds_people else self(image, People(torch.ones(1, 4), torch.ones(1)))
        except InputError:
            raise
        except (IndexError, RuntimeError, ValueError, StopIteration) as error:
            what = f"answers with {described(self.network.outputs)}, which is not {self.network.description.head}"
            raise self.network.refuse(what, f"head: {', '.join(heads)}") from error

    def __call__(self, image: UInt8[np.ndarray, "H W 3"], people: People) -> Poses:
        """The joints of people."""
        about, found = self.network.description, []
        for box in people.boxes:
            part, corner = (image, torch.zeros(2)) if about.outside is None else part_of(image, box, about.outside)
            window = around(box - corner.repeat(2), about.margin, self.network.size)
            outputs = self.network(cut(part, window, about.fill))
            joints = joint_heads.SINGLE[about.head or ""](list(outputs.values()), self.network.size)
            found.append(torch.cat((window.in_image(joints[:, :2]) + corner, joints[:, 2:].clamp(0.0, 1.0)), dim=1))
        joints = self._named(torch.stack(found)) if found else torch.zeros(0, len(self._order), 3)
        return Poses(joints, torch.ones(len(found)))

    def search(self, image: UInt8[np.ndarray, "H W 3"]) -> tuple[People, Poses]:
        """The people of an image with their joints, by a network that `finds_people`."""
        network = self.network
        window = _whole(image, network)
        outputs = list(network(cut(image, window, network.description.fill)).values())
        boxes, scores, joints = joint_heads.several(network.description.head or "", outputs)
        people, rows = _people(image, window, boxes, scores, network)
        joints = torch.cat((window.in_image(joints[rows, :, :2]), joints[rows, :, 2:].clamp(0.0, 1.0)), dim=2)
        return people, Poses(self._named(joints), torch.ones(len(joints)))

    def _named(self, joints: Float[Tensor, "P K 3"]) -> Float[Tensor, "P J 3"]:
        """In the order of the skeleton; joints that the network lacks are zeros."""
        order = torch.tensor(self._order)
        return joints[:, order.clamp_min(0)] * (order >= 0)[:, None]


def _whole(image: np.ndarray, network: ImageNetwork) -> Window:
    height, width = image.shape[:2]
    if network.description.fit == "stretch":
        return Window(torch.zeros(2), torch.tensor([width, height]).float(), network.size)
    return letterbox(width, height, network.size, centred=network.description.fit == "letterbox")


def _people(
    image: np.ndarray, window: Window, boxes: Tensor, scores: Tensor, network: ImageNetwork
) -> tuple[People, Tensor]:
    """Those that are certain enough and different, in pixels of the image; and their rows."""
    limits = torch.tensor([image.shape[1], image.shape[0]] * 2).float()
    rows = (scores >= network.description.score).nonzero()[:, 0]
    rows = rows[scores[rows].argsort(descending=True, stable=True)[: 4 * _MOST]]
    boxes = window.in_image(boxes[rows].view(-1, 2, 2)).flatten(1).clamp_min(0.0).minimum(limits)
    inside = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    rows, boxes = rows[inside], boxes[inside]
    kept = suppress_boxes(boxes, scores[rows], network.description.overlap)[:_MOST]
    return People(boxes[kept], scores[rows[kept]].clamp(0.0, 1.0)), rows[kept]


def _order(network: ImageNetwork) -> tuple[str, list[int]]:
    """The skeleton of a pose network, and for each of its joints the number of the output, -1 where there is none."""
    about, file = network.description, network.network.file
    count = joint_heads.joints_of(about.head or "", network.outputs)
    names = about.joints or tuple(names_in(network.network.metadata, "kpt_names").get(0, ()))
    if names:
        if len(names) != count or (twice := [name for name, times in Counter(names).items() if times > 1]):
            said = f"{len(names)} names" if len(names) != count else f"{', '.join(twice)} twice"
            raise InputError(f"{network.beside}: joints has {said}, but {file} answers with {count} different joints")
        try:
            return skeleton_of_names(names)
        except InputError as error:
            raise InputError(f"{network.beside}: joints: {error}") from error
    try:
        skeleton, _ = skeleton_of(str(file), "its output", count, about.skeleton)
    except InputError as error:
        raise network.refuse(f"has {count} joints in an order that is not known", "joints: [names in order]") from error
    return skeleton, list(range(skeletons.get(skeleton).num_joints))
