"""Tiny videos of people who are coloured rectangles, and a detector that sees them."""

from fractions import Fraction

import av
import numpy as np
import torch

from noise2pose.annotation import detections
from noise2pose.keypoints.detectors.finder import Found
from tests.noise2pose.keypoints.walker import coco_walker

RED, GREEN, BLUE = (220, 20, 20), (20, 220, 20), (20, 20, 220)
SIZE = (160, 96)  # pixels


def picture(*people, size=SIZE):
    """Black, with the people: a colour and the x of their left side; (H, W, 3)."""
    image = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    for color, x in people:
        image[20:84, max(x, 0) : max(x + 24, 0)] = color
    return image


def write_film(path, pictures, milliseconds=40, rotation=0, codec="mpeg4", audio=False, aspect=None):
    """Writes a video, shown for so many milliseconds a picture, or at the times in a list."""
    times = milliseconds if isinstance(milliseconds, list) else [milliseconds * i for i in range(len(pictures))]
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=round(1000 / (times[1] - times[0])) if len(times) > 1 else 25)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        if path.suffix != ".avi":  # which has a fixed rate
            stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        for number, image in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(image)
            if path.suffix == ".avi":
                frame.pts, frame.time_base = number, Fraction(1, stream.codec_context.rate)
            else:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def write_sound(path):
    """A file of audio alone."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("aac", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        sound.sample_rate, sound.pts = 8000, 0
        file.mux(stream.encode(sound))
        file.mux(stream.encode())
    return path


class SeesColors:
    """A detector: a walking pose in the rectangle of each colour, from the left; blue is seen in tiles only.

    Attributes:
        calls: images in which people were sought in all.
    """

    calls = 0

    def __init__(self, tiled=True):
        self.tiled = tiled
        self.pose = torch.as_tensor(np.asarray(coco_walker(40))[10, :, :2], dtype=torch.float32)
        low, high = self.pose.amin(dim=0), self.pose.amax(dim=0)
        self.pose = (self.pose - low) / (high - low)

    def __call__(self, image):
        type(self).calls += 1
        found = []
        for channel in range(3 if self.tiled else 2):
            others = [other for other in range(3) if other != channel]
            rows, columns = np.nonzero((image[..., channel] > 120) & (image[..., others].max(axis=-1) < 90))
            if len(rows) > 100:
                low, high = np.array([columns.min(), rows.min()]), np.array([columns.max(), rows.max()]) + 1
                points = torch.as_tensor(low) + self.pose * torch.as_tensor(high - low)
                found.append(torch.cat((points.float(), torch.full((17, 1), 0.9)), dim=1))
        found.sort(key=lambda person: float(person[0, 0]))
        joints = torch.stack([torch.zeros(17, 3), *found])[1:]
        return Found(joints, torch.zeros(len(found), 4), torch.ones(len(found)), [])


def use_colors(monkeypatch, folder):
    """Puts this detector in the place of the usual one."""
    model = folder / "detector.bin"
    model.write_bytes(b"colours")
    monkeypatch.setattr(detections, "model_files", lambda folder=None: [model, model])
    monkeypatch.setattr(detections, "finder_of", lambda files, tiled=True: SeesColors(tiled))
    monkeypatch.setattr(SeesColors, "calls", 0)
