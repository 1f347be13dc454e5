"""How well the small generator of Pose++ follows its two condition maps: silhouettes with each map on and off.

    python -m scripts.studies.generator runs/posepp_generator_people/checkpoints/best.ckpt \\
        --data configs/data/rendered_whole_people.yaml --pictures fidelity.png

A segmenter is trained on the rendered people of the training split and its error on those of the test split is printed
too, since no generated image can agree better. The null column compares each image with the silhouette of another
person: images that follow no map agree as well as that with any.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import yaml
from torch import Tensor

from datamodules.base import PoseDataModule, batch_of
from methods.checkpoints import load_method
from methods.posepp import Generator
from methods.posepp.images.diffusion import Maps, Sampling
from methods.posepp.images.fidelity import condition_fidelity, silhouette_iou, train_segmenter
from noise2pose import keyed_random
from noise2pose.errors import InputError
from noise2pose.files import commit, write_png
from scripts.studies.people import make_data_module

_SHOWN = 12  # people in the picture


def main(args: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="of methods.posepp.Generator")
    parser.add_argument("--data", type=Path, required=True, metavar="YAML", help="whole images of rendered people")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="an option of the data")
    parser.add_argument("--people", type=int, default=64, help="of the test split, drawn once for each state")
    parser.add_argument("--segmenter_people", type=int, default=1000, help="of the training split")
    parser.add_argument("--segmenter_steps", type=int, default=500)
    parser.add_argument("--steps", type=int, default=25, help="of DDIM")
    parser.add_argument("--guidance", type=float, default=2.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pictures", type=Path, metavar="PNG", help="file to write images to")
    arguments = parser.parse_args(args)
    torch.set_num_threads(arguments.threads)
    generator = load_method(arguments.checkpoint)
    if not isinstance(generator, Generator):
        raise InputError(f"{arguments.checkpoint} holds {generator.title}, expected methods.posepp.Generator")
    config = yaml.safe_load(arguments.data.read_text())
    config["init_args"] |= {name: yaml.safe_load(value) for name, _, value in (s.partition("=") for s in arguments.set)}
    data = make_data_module(config)
    images, maps, _ = _people(generator, data, "train", arguments.segmenter_people)
    segmenter = train_segmenter(images, maps.depth[:, 0] > 0.0, arguments.segmenter_steps)
    images, maps, names = _people(generator, data, "test", arguments.people)
    asked, found = maps.depth[:, 0] > 0.0, segmenter.find(images)
    rows = {
        "rendered": {
            "iou": float(silhouette_iou(found, asked).mean()),
            "iou_null": float(silhouette_iou(found, asked.roll(1, 0)).mean()),
        }
    }
    sampling = Sampling(arguments.steps, arguments.guidance)
    seeds = keyed_random.keys_of(names).tolist()
    drawn, pictures = condition_fidelity(generator.denoiser, segmenter, maps, seeds, sampling)
    print(f"{data.protocols('test')[0].dataset}, {len(names)} people; commit {commit()}\n\n{table(rows | drawn)}")
    if arguments.pictures is not None:
        shown = [images, maps.depth.expand(-1, 3, -1, -1), maps.keypoints, *pictures.values()]
        write_png(arguments.pictures, grid([row[:_SHOWN] for row in shown]))


def table(rows: dict[str, dict[str, float]]) -> str:
    """Markdown: a line for rendered images and for each state of the maps."""
    lines = ["| maps | IoU | IoU, null |", "|---|---|---|"]
    return "\n".join(
        [*lines, *(f"| {name} | {row['iou']:.3f} | {row['iou_null']:.3f} |" for name, row in rows.items())]
    )


def grid(rows: Sequence[Tensor]) -> np.ndarray:
    """Rows of images (B, 3, S, S) in [0, 1] as one RGB picture, each pixel three wide."""
    picture = torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1)
    pixels = (255.0 * picture).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    return np.repeat(np.repeat(pixels, 3, axis=0), 3, axis=1)


def _people(generator: Generator, data: PoseDataModule, split: str, number: int) -> tuple[Tensor, Maps, list[str]]:
    """Images, maps and names of evenly spread people of a split."""
    samples = data.load(split)  # pyright: ignore[reportArgumentType]
    count = len(samples["sample_id"])
    chosen = torch.linspace(0, count - 1, min(count, number)).round().long()
    batch = batch_of(samples, chosen)
    maps = generator.maps(batch, torch.arange(len(chosen)))
    return generator.resized_images(batch), maps, batch["sample_id"]


if __name__ == "__main__":
    main()
