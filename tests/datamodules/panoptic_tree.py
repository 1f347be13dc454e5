"""Small sequences of the CMU Panoptic Studio in the layout of its toolbox's downloads, with people made of nothing."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

SIZE = (96, 54)  # of the images; HD has 1920 x 1080
_STANDING = np.array(  # of "coco19", centimetres, y down, facing -z
    [
        *((0, -50, 0), (0, -65, -10), (0, 0, 0)),
        *((18, -48, 0), (24, -20, 3), (26, 5, -5), (10, 0, 0), (11, 42, -2), (12, 84, 4)),
        *((-18, -48, 0), (-24, -20, 3), (-26, 5, -5), (-10, 0, 0), (-11, 42, -2), (-12, 84, 4)),
        *((3, -68, -8), (7, -66, 0), (-3, -68, -8), (-7, -66, 0)),
    ],
    dtype=np.float64,
)


def write(
    folder: Path,
    sequences: tuple[str, ...] = ("160422_haggling1",),
    frames: tuple[int, ...] = (5, 6, 8),
    joints: int = 19,
    archive: bool = False,
    images: str | None = "jpg",
    cameras: tuple[str, ...] = ("00_16", "00_30"),
    people: int = 2,
    seed: int = 0,
) -> dict[str, dict[int, list[dict[str, Any]]]]:
    """Writes sequences.

    Args:
        folder: that they are written to.
        sequences: their names.
        frames: annotated ones.
        joints: 19 ("coco19") or 15 ("mpi15").
        archive: leave the annotations in their .tar.
        images: `jpg` or `png` in hdImgs, `mp4` in hdVideos, or None.
        cameras: that have images; the calibration has three of them and a VGA camera.
        people: in every frame.
        seed: of everything random.

    Returns:
        The bodies of every frame of every sequence, as the files say them.
    """
    random = np.random.default_rng(seed)
    written = {}
    for sequence in sequences:
        home = folder / sequence
        home.mkdir(parents=True, exist_ok=True)
        calibration = {"calibDataSource": "made up", "cameras": [camera(name, random) for name in _names()]}
        (home / f"calibration_{sequence}.json").write_text(json.dumps(calibration))
        bodies = {frame: [body(person, joints, random) for person in range(people)] for frame in frames}
        write_bodies(home, bodies, archive, "hdPose3d_stage1_coco19" if joints == 19 else "hdPose3d_stage1")
        for name in cameras if images else ():
            write_images(home, name, max(frames) + 2, str(images), random)
        written[sequence] = bodies
    return written


def _names() -> tuple[str, ...]:
    return ("00_16", "00_30", "00_03", "01_01")


def camera(name: str, random: np.random.Generator) -> dict[str, Any]:
    """An entry of a calibration file: at three metres, looking at the middle of the world."""
    angle = random.uniform(-0.5, 0.5)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    panel, node = (int(part) for part in name.split("_"))
    return {
        "name": name,
        "type": "hd" if panel == 0 else "vga",
        "resolution": list(SIZE),
        "panel": panel,
        "node": node,
        "K": [[70.0, 0.0, 47.5], [0.0, 71.0, 26.0], [0.0, 0.0, 1.0]],
        "distCoef": [-0.28, 0.17, 0.002, -0.001, 0.04],
        "R": turn.tolist(),
        "t": [[random.uniform(-20, 20)], [5.0], [330.0]],
    }


def body(person: int, joints: int, random: np.random.Generator) -> dict[str, Any]:
    """An entry of a frame, every joint certain."""
    places = _STANDING + random.normal(0.0, 3.0, _STANDING.shape) + (80.0 * person - 40.0, 0.0, random.uniform(-50, 50))
    if joints == 15:
        places = places[:15]  # the top of the head takes the nose's place
    values = np.concatenate((places, random.uniform(0.3, 0.8, (joints, 1))), axis=1)
    return {"id": person, f"joints{joints}": np.round(values, 4).reshape(-1).tolist()}


def scene(bodies: list[dict[str, Any]]) -> bytes:
    """The text of a frame."""
    return json.dumps({"version": 0.7, "univTime": 53541.542, "fpsType": "hd_29_97", "bodies": bodies}).encode()


def write_bodies(home: Path, bodies: dict[int, list[dict[str, Any]]], archive: bool, name: str) -> None:
    """Annotations of a sequence, extracted or not."""
    texts = {f"{name}/body3DScene_{frame:08d}.json": scene(entries) for frame, entries in bodies.items()}
    if not archive:
        (home / name).mkdir(exist_ok=True)
        for path, text in texts.items():
            (home / path).write_bytes(text)
        return
    with tarfile.open(home / f"{name}.tar", "w") as opened:
        for path, text in texts.items():
            member = tarfile.TarInfo(path)
            member.size = len(text)
            opened.addfile(member, io.BytesIO(text))


def write_images(home: Path, name: str, number: int, kind: str, random: np.random.Generator) -> None:
    """Frames 0 to `number` of a camera: plain colours, brighter from frame to frame."""
    width, height = SIZE
    colour = random.uniform(0.3, 1.0, 3)
    images = [
        np.broadcast_to((colour * (60 + 15 * i)).clip(0, 255), (height, width, 3)).astype(np.uint8)
        for i in range(number)
    ]
    if kind == "mp4":
        (home / "hdVideos").mkdir(exist_ok=True)
        with av.open(str(home / "hdVideos" / f"hd_{name}.mp4"), "w") as container:
            stream = container.add_stream("mpeg4", rate=30)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for image in images:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
            container.mux(stream.encode())
        return
    target = home / "hdImgs" / name
    target.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(target / f"{name}_{i:08d}.{kind}")
