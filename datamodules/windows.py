"""Batches of clips out of longer sequences.

Shape letters: W windows, F frames of a window, T frames of a sequence.
"""

import torch

from datamodules.base import select
from noise2pose.batch import PoseBatch
from noise2pose.windows import window_frames


def cut_windows(samples: PoseBatch, lengths: list[int], num_frames: int, stride: int) -> PoseBatch:
    """Windows of consecutive frames, from a split of single frames.

    Args:
        samples: frames, sequence after sequence. Windows are named after their first frame.
        lengths: T of each sequence; they add up to the number of frames.
        num_frames: F.
        stride: between the starts of two windows. If it is smaller than F, all frames of a window are valid, as
            training wants it; otherwise each frame is valid in one window only, as evaluation does.
    """
    frames, counted, start = [], [], 0
    for length in lengths:
        window, once = window_frames(length, num_frames, stride)
        frames.append(window + start)
        counted.append(once)
        start += length
    index, valid = torch.cat(frames), torch.cat(counted)
    joints = samples["keypoints_3d"][index]
    if stride >= num_frames:
        joints[..., 3] *= valid[..., None]
    first = index[:, 0]
    rest: PoseBatch = {key: value for key, value in samples.items() if not key.startswith("keypoints")}  # pyright: ignore
    windows = select(rest, first)
    windows["keypoints_2d"] = samples["keypoints_2d"][index]
    windows["keypoints_3d"] = joints
    return windows
