"""The stage that draws the images of samples from their condition maps and texts."""

import io
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from methods.posepp.images.pipelines import ImageGenerator, Prompt, load_generator
from methods.posepp.records import Record, Result, files_of
from methods.posepp.settings import Settings
from noise2pose.errors import InputError
from noise2pose.files import write_text
from noise2pose.shards import image_array, png_bytes

BROKEN = "broken"  # reason of an image with numbers that are not finite, as half precision gives
NETWORKS = "networks.json"
_QUALITY = 95  # of JPEG
_TIMED = 20  # images after the first batch, from which the time of the whole data set is estimated


class GenerateStage:
    """Draws images, some at a time; which ones were drawn together is written with each.

    Args:
        generator: draws them.
        batch: images at once.
        format: `jpg` or `png`.
        samples: of the whole data set, for the estimate of its time.
    """

    def __init__(self, generator: ImageGenerator, batch: int, format: str, samples: int) -> None:
        self.generator = generator
        self.batch = batch
        self.format = format
        self.clock = Clock(samples)

    def process(self, records: Sequence[Record]) -> list[Result]:
        facts = [record.facts("sample") for record in records]
        seeds = [int(fact["seeds"]["noise"]) for fact in facts]
        prompts = [Prompt(fact["text"], fact["negative"]) for fact in facts]
        depth = _stack([record.image("render", "depth.png") for record in records])
        keypoints = _stack([record.image("render", "keypoints.png") for record in records])
        images = self.generator.generate(prompts, depth, keypoints, seeds)
        ids = [record.id for record in records]
        results = []
        for sample, seed, image in zip(ids, seeds, images, strict=True):
            if not image.isfinite().all():
                results.append(Result(sample, reason=BROKEN))
                continue
            pixels = (255.0 * image).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
            about = {**self.generator.facts, "batch": ids, "seed": seed}
            results.append(Result(sample, {self.format: _encoded(pixels, self.format), **files_of(facts=about)}))
        self.clock.done(len(records))
        return results


class Clock:
    """Says, soon after the start, how long the whole data set takes.

    Args:
        samples: of the data set.
    """

    def __init__(self, samples: int) -> None:
        self.samples = samples
        self._started: float | None = None
        self._images = 0
        self._said = False

    def done(self, images: int) -> None:
        """Counts images of a batch; the first batch only warms up."""
        now = time.perf_counter()
        if self._started is None:
            self._started = now
            return
        self._images += images
        if not self._said and self._images >= _TIMED:
            from tqdm import tqdm

            self._said = True
            rate = self._images / max(now - self._started, 1e-9)
            tqdm.write(forecast(rate, self.samples), file=sys.stderr)


def forecast(rate: float, samples: int) -> str:
    """The time of a data set in words.

    Args:
        rate: images a second.
        samples: of the data set.
    """
    hours = samples / rate / 3600.0
    takes = f"{hours:.1f} hours" if hours >= 1.0 else f"{60.0 * hours:.1f} minutes"
    return f"{rate:.3g} images/s: all {samples} images take {takes} in one process such as this, less in several"


def generated_image(record: Record) -> UInt8[np.ndarray, "H W 3"]:
    """The image of a sample, in whichever format it was written."""
    files = record.files["generate"]
    return image_array(files["jpg"] if "jpg" in files else files["png"])


def make_stage(settings: Settings, folder: Path) -> GenerateStage:
    """The stage of a data set.

    Args:
        settings: of the data set.
        folder: of the data set.

    Raises:
        InputError: if networks are missing, or are not those that the data set was begun with.
    """
    generator = load_generator(settings.generation)
    check_networks(folder / "generate", generator)
    return GenerateStage(generator, settings.generation.batch, settings.generation.format, settings.samples)


def check_networks(folder: Path, generator: ImageGenerator) -> None:
    """Writes by which networks and options images are drawn, or refuses others: those of a data set are of one kind.

    Args:
        folder: of the stage.
        generator: of its images.

    Raises:
        InputError: if the images there were drawn by others.
    """
    path, facts = folder / NETWORKS, generator.facts
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(facts, indent=2, sort_keys=True) + "\n")
        return
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error})") from error
    if found != facts:
        keys = [key for key in facts if not isinstance(found, dict) or found.get(key) != facts[key]]
        raise InputError(
            f"{path}: images were drawn by other networks than those there now ({', '.join(keys)}); go on with "
            f"those, or remove {folder} and the stages after it"
        )


def _stack(images: list[np.ndarray]) -> Float[Tensor, "B 3 H W"]:
    """Maps in [0, 1], with three channels."""
    arrays = [np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image for image in images]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 255.0


def _encoded(pixels: UInt8[np.ndarray, "H W 3"], format: str) -> bytes:
    if format == "png":
        return png_bytes(pixels)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=_QUALITY)
    return buffer.getvalue()
