"""A scene as one HTML file that needs no network: timeline, people, hypotheses, ellipsoids, meshes and images.

The page is `assets/viewer.html` with its script and style; the scene is JSON in it. Arrays are unsigned integers of 16
bits as base64: a value is `low + step * number`, 65535 means that there is none. `step` is at most a 65534th of the
extent, so people who move within 60 m are shown to half a millimetre. Names reach the page as JSON and are set as text.

What keeps the page small: timelines have at most `scene.MOST_MOMENTS` moments and `scene.MOST_HYPOTHESES` hypotheses;
at most `MOST_MESHES` meshes and `MOST_IMAGES` images are in it, spread over all moments (`notes` says so). An hour of
video at 30 frames a second is 2 MB for a lifter's person, and 14 MB for a body with meshes.

Shape letters: as in `noise2pose.viewing.scene`.
"""

import io
import json
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from noise2pose.bodies.legs import PARTS
from noise2pose.export.motion import Motion
from noise2pose.files import ASSETS, write_text
from noise2pose.rendering.skeletons import LEFT, MIDDLE, RIGHT, color_of_joint
from noise2pose.viewing.scene import Person, Scene, Timeline, build_scene

MOST_MESHES = 240  # of all people together; 41 kB each for a body of 6,890 vertices
MOST_IMAGES = 120  # of a timeline
_LONGEST_SIDE, _QUALITY = 480, 70  # pixels and JPEG quality of an image
_NONE = 65535
Images = Callable[[str], Iterable[tuple[float, UInt8[np.ndarray, "H W 3"]]] | None]


def write_page(path: Path, motions: Sequence[Motion], images: Images | None = None, title: str = "") -> None:
    """Writes one page about all people, whole or not at all; the same people give the same bytes.

    Args:
        path: file.
        motions: people of one or several videos and images.
        images: gives seconds and RGB of each frame of a video, or of an image, by its name, or None where there are
            none; None to show people without images.
        title: of the page; empty for the names of the videos.

    Raises:
        InputError: if there is nobody, or the file cannot be written.
    """
    write_text(path, page(build_scene(motions), images, title))


def page(scene: Scene, images: Images | None = None, title: str = "") -> str:
    """The HTML of a scene, with the arguments of `write_page`."""
    from jinja2 import Environment, FileSystemLoader
    from markupsafe import Markup

    content = _content(scene, images, title or ", ".join(timeline.name for timeline in scene.timelines[:3]))
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":  # nothing in it can end the script element or begin another
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    template = Environment(loader=FileSystemLoader(ASSETS), autoescape=True).get_template("viewer.html")
    return template.render(title=content["title"], scene=Markup(text))  # noqa: S704


def quantised(values: Float[np.ndarray, "*shape"]) -> dict[str, Any]:
    """An array as the page reads it; NaN stays NaN."""
    known = values[np.isfinite(values)].astype(np.float64)
    low = float(known.min()) if known.size else 0.0
    step = max(float(known.max()) - low, 1e-6) / (_NONE - 1) if known.size else 1.0
    numbers = np.where(np.isfinite(values), np.rint((values.astype(np.float64) - low) / step), _NONE)
    data = b64encode(numbers.astype("<u2").tobytes()).decode()
    return {"shape": list(values.shape), "low": low, "step": step, "data": data}


def _content(scene: Scene, images: Images | None, title: str) -> dict[str, Any]:
    skeleton = scene.skeleton
    bodies = sum(
        len(timeline) for timeline in scene.timelines for person in timeline.people if person.faces is not None
    )
    every = max(1, -(-bodies // MOST_MESHES))
    bodied = next((p for timeline in scene.timelines for p in timeline.people if p.faces is not None), None)
    faces, parts = (None, None) if bodied is None else (bodied.faces, bodied.parts)
    return {
        "title": title,
        "joints": list(skeleton.joints),
        "edges": [list(edge) for edge in skeleton.edges],
        "colors": [color_of_joint(joint) for joint in skeleton.joints],
        "sides": {"left": LEFT, "right": RIGHT, "middle": MIDDLE},
        "faces": None if faces is None else b64encode(faces.astype("<u2").tobytes()).decode(),
        # The joint that has to be seen for each part of the legs, and the part of each vertex, counted from 1.
        "leg_joints": [skeleton.joints.index(joint) for _, joint in PARTS],
        "parts": None if parts is None else b64encode((parts + 1).astype("u1").tobytes()).decode(),
        "timelines": [_timeline(timeline, images, every) for timeline in scene.timelines],
    }


def _timeline(timeline: Timeline, images: Images | None, every: int) -> dict[str, Any]:
    shown = {} if images is None else images_of(timeline, images, _LONGEST_SIDE)
    notes = [timeline.about, f"origin: {timeline.origin}"]
    if timeline.step > 1:
        kind = "frame" if timeline.moving else "image"
        notes.append(f"1 in {timeline.step} {kind}s is here, so that the page stays small")
    if every > 1 and any(person.faces is not None for person in timeline.people):
        notes.append(
            f"bodies are those of 1 in {every} moments" + (", interpolated between" if timeline.moving else "")
        )
    if 0 < len(shown) < len(timeline):
        notes.append(f"{len(shown)} images for {len(timeline)} moments")
    return {
        "name": timeline.name,
        "labels": [timeline.label(moment) for moment in range(len(timeline))],
        "times": [round(float(time), 4) for time in timeline.times],
        "moving": timeline.moving,
        "sizes": [None if size is None else list(size) for size in timeline.image_size],
        "notes": notes,
        "images": {str(moment): _jpeg(pixels) for moment, pixels in shown.items()},
        "people": [_person(person, len(timeline), every) for person in timeline.people],
    }


def _person(person: Person, moments: int, every: int) -> dict[str, Any]:
    known: dict[str, Any] = {"joints": person.joints, "confidence": person.confidence}
    known |= {"hypotheses": person.hypotheses, "points": person.points_2d}
    if person.ellipsoids is not None:  # symmetric
        rows, columns = np.triu_indices(3)
        known["ellipsoids"] = person.ellipsoids[:, :, rows, columns]
    packed = {key: None if value is None else quantised(value) for key, value in known.items()}
    meshes: dict[str, Any] = {}
    if person.faces is not None:
        found = {moment: person.vertices(moment) for moment in range(0, moments, every)}
        meshes = {str(moment): quantised(vertices) for moment, vertices in found.items() if vertices is not None}
    return {"name": person.name, "color": person.color, "meshes": meshes, **packed}


def images_of(timeline: Timeline, images: Images, longest: int) -> dict[int, UInt8[np.ndarray, "H W 3"]]:
    """Images of at most `MOST_IMAGES` moments, by moment.

    Args:
        timeline: whose images are wanted.
        images: as `write_page` takes them.
        longest: pixels of the longer side; larger images are reduced.
    """
    chosen = range(0, len(timeline), max(1, -(-len(timeline) // MOST_IMAGES)))
    if not timeline.moving:
        firsts = {moment: next(iter(images(timeline.sources[moment]) or ()), None) for moment in chosen}
        return {moment: _reduced(first[1], longest) for moment, first in firsts.items() if first is not None}
    wanted = {int(timeline.frames[moment]): moment for moment in chosen}
    last, shown = max(wanted), {}
    for number, (_, pixels) in enumerate(images(timeline.name) or ()):
        if number in wanted:
            shown[wanted[number]] = _reduced(pixels, longest)
        if number >= last:
            break
    return shown


def _reduced(pixels: UInt8[np.ndarray, "H W 3"], longest: int) -> UInt8[np.ndarray, "h w 3"]:
    from PIL import Image

    image = Image.fromarray(pixels)
    image.thumbnail((longest, longest))
    return np.asarray(image)


def _jpeg(pixels: UInt8[np.ndarray, "H W 3"]) -> str:
    """JPEG as base64."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="JPEG", quality=_QUALITY)
    return b64encode(file.getvalue()).decode()
