"""Heat-maps of simulated detections, made for each batch on its device: those of a whole data set would not fit."""

import torch

from noise2pose import cameras, skeletons
from noise2pose.batch import PoseBatch
from noise2pose.keypoints.heatmaps import detection_heatmaps

_CELLS, _SIGMA = 48, 1.0  # a cell is about 5 cm on a standing person
_MARGIN = 1.1  # of the square around the joints


def with_heatmaps(batch: PoseBatch, skeleton: str = "h36m_17") -> PoseBatch:
    """The batch of single frames with `heatmaps`, and the `box` that they cover, around detections and true joints.

    True joints are projected without the distortion of lenses, which is less than a cell.
    """
    camera, detections = batch["camera"], batch["keypoints_2d"]
    truth = cameras.project(batch["keypoints_3d"][..., :3], camera["focal"], camera["principal_point"])
    points = torch.cat((detections[..., :2], truth), dim=1)
    low, high = points.amin(dim=1), points.amax(dim=1)
    side = _MARGIN * (high - low).amax(dim=-1, keepdim=True).clamp_min(1.0)
    box = torch.cat(((low + high) / 2.0, side), dim=-1)
    partners = torch.tensor(skeletons.get(skeleton).flip_order, device=box.device)
    maps = detection_heatmaps(detections, truth, box, (_CELLS, _CELLS), _SIGMA, partners)
    return {**batch, "heatmaps": maps, "box": box}
