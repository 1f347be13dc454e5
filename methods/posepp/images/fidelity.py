"""Do generated people stand where the condition maps say? Silhouettes of images against those that were asked for.

A small network finds the person in an image. It is trained on rendered images, which the generator never made, and
its own error on rendered images is the most that any generator can reach by this measure.

Shape letters: B batch, S side of the images.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from methods.posepp.images.diffusion import Denoiser, Maps, Sampling, draw_images

# Which maps the generator is given: names of rows, and the scales of depth and keypoints.
STATES: Mapping[str, tuple[float, float]] = {
    "both": (1.0, 1.0),
    "depth": (1.0, 0.0),
    "keypoints": (0.0, 1.0),
    "neither": (0.0, 0.0),
}
_WIDTHS = (16, 32, 48)


class Segmenter(nn.Module):
    """Finds the pixels of a person in small images."""

    def __init__(self) -> None:
        super().__init__()
        first, second, third = _WIDTHS
        self.fine = _convolutions(3, first)
        self.middle = _convolutions(first, second)
        self.coarse = nn.Sequential(_convolutions(second, third), _convolutions(third, second))
        self.join_middle = _convolutions(2 * second, first)
        self.join_fine = _convolutions(2 * first, first)
        self.answer = nn.Conv2d(first, 1, 1)

    def forward(self, image: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B S S"]:
        """Logits of RGB images in [0, 1]."""
        fine = self.fine(2.0 * image - 1.0)
        middle = self.middle(F.avg_pool2d(fine, 2))
        coarse = self.coarse(F.avg_pool2d(middle, 2))
        joined = self.join_middle(torch.cat((middle, _twice(coarse)), dim=1))
        return self.answer(self.join_fine(torch.cat((fine, _twice(joined)), dim=1)))[:, 0]

    @torch.no_grad()
    def find(self, image: Float[Tensor, "B 3 S S"]) -> Bool[Tensor, "B S S"]:
        """The silhouettes of people."""
        return self(image) > 0.0


def train_segmenter(
    images: Float[Tensor, "B 3 S S"],
    masks: Bool[Tensor, "B S S"],
    steps: int = 500,
    batch_size: int = 16,
    learning_rate: float = 3e-3,
    seed: int = 0,
) -> Segmenter:
    """Trains a segmenter on rendered images with their silhouettes; half of them mirrored.

    Args:
        images: RGB in [0, 1].
        masks: where the person is.
        steps: of AdamW.
        batch_size: images of a step.
        learning_rate: at first; it falls to zero as a cosine.
        seed: of the weights and the order.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Segmenter()
        optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(steps):
            chosen = torch.randint(len(images), (batch_size,))
            image, mask = images[chosen], masks[chosen].float()
            if torch.rand(()) < 0.5:
                image, mask = image.flip(-1), mask.flip(-1)
            loss = F.binary_cross_entropy_with_logits(network(image), mask)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def silhouette_iou(found: Bool[Tensor, "B S S"], asked: Bool[Tensor, "B S S"]) -> Float[Tensor, " B"]:
    """Intersection over union of silhouettes; 1 where both are empty."""
    both = (found & asked).flatten(1).sum(dim=1)
    either = (found | asked).flatten(1).sum(dim=1)
    return torch.where(either > 0, both / either.clamp_min(1), torch.ones(()))


def condition_fidelity(
    denoiser: Denoiser, segmenter: Segmenter, maps: Maps, seeds: Sequence[int], sampling: Sampling
) -> tuple[dict[str, dict[str, float]], dict[str, Float[Tensor, "B 3 S S"]]]:
    """Draws the same people with each map on and off.

    Args:
        denoiser: of the generator.
        segmenter: finds the people.
        maps: of B people.
        seeds: B.
        sampling: steps and guidance; its scales are replaced by those of `STATES`.

    Returns:
        For each state the mean IoU with the person's own silhouette, `iou`, and with that of the next person,
        `iou_null`, which images that follow no map reach as well; and the images.
    """
    asked = maps.depth[:, 0] > 0.0
    rows, images = {}, {}
    for name, scales in STATES.items():
        drawn = draw_images(denoiser, maps, seeds, Sampling(sampling.steps, sampling.guidance, scales))
        found = segmenter.find(drawn)
        rows[name] = {
            "iou": float(silhouette_iou(found, asked).mean()),
            "iou_null": float(silhouette_iou(found, asked.roll(1, 0)).mean()),
        }
        images[name] = drawn
    return rows, images


def _convolutions(inputs: int, outputs: int) -> nn.Sequential:
    layers = []
    for number in (inputs, outputs):
        layers += [nn.Conv2d(number, outputs, 3, padding=1), nn.GroupNorm(8, outputs), nn.SiLU()]
    return nn.Sequential(*layers)


def _twice(values: Tensor) -> Tensor:
    return F.interpolate(values, scale_factor=2.0, mode="nearest")
