"""Settings of a data set: what a YAML file of `configs/generation` may hold, its defaults, and what it is known by.

Defaults are the paper's; where the paper gives none, the README says what was chosen.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from methods.posepp.labels import settings as labels
from methods.posepp.labels.settings import Detector, Filter, HeadPose, Refinement
from noise2pose.errors import InputError

NEGATIVE = "ugly, extra limbs, poorly drawn face, poorly drawn hands, poorly drawn feet"


@dataclass
class Poses:
    """Where poses come from.

    Attributes:
        source: `synthetic`, which needs no file; `motion`, folders of prepared motion with rotations, of which the
            training people are taken; `amass`, npz files of AMASS or a folder of them; `file`, a pose bank.
        paths: folders or files of the source.
        number: poses that are kept, evenly from all that there are.
    """

    source: str = "synthetic"
    paths: list[str] = field(default_factory=list)
    number: int = 20_000


@dataclass
class Bodies:
    """Who is drawn.

    Attributes:
        model: `free`, or a body file of `noise2pose prepare body`.
        beta_limit: shape coefficients are standard normal, cut at this.
        expression: standard deviation of the coefficients of the expression, of a body that has them.
        random_yaw: whether people are turned about the vertical, uniformly; their other two angles are kept.
    """

    model: str = "free"
    beta_limit: float = 2.0
    expression: float = 0.5
    random_yaw: bool = True


@dataclass
class View:
    """The camera. Scale 1 shows two metres across the image at the depth of the pelvis.

    Attributes:
        scale: smallest and largest, uniform.
        shift: of the pelvis from the image's centre at most, metres at scale 1.
        field_of_view: smallest and largest, degrees across the image, uniform.
        near: metres; a view with a vertex closer is drawn again.
        least_inside: limb joints (of 12) in the image; a view with fewer is drawn again.
        redraws: at most, after which the sample is left out.
    """

    scale: list[float] = field(default_factory=lambda: [0.45, 1.1])
    shift: float = 0.4
    field_of_view: list[float] = field(default_factory=lambda: [25.0, 65.0])
    near: float = 0.2
    least_inside: int = 8
    redraws: int = 50


@dataclass
class Prompts:
    """The text.

    Attributes:
        negative: what the image should not show.
        suffix: appended to every text, such as ", photograph, natural light".
        environments: a text file with one a line; empty for the list that comes with the method.
    """

    negative: str = NEGATIVE
    suffix: str = ""
    environments: str = ""


@dataclass
class Conditions:
    """The two condition maps.

    Attributes:
        depth_floor: brightness of the farthest point of a person; the background has 0.
        depth_invert: near is dark, against the convention of the published depth networks.
        hide_occluded: which hidden points are left out of the drawing: `face`, `all` or `none`.
        stroke_scale: width of the drawn limbs, 1 is OpenPose's.
        hands, face: whether the points of hands and face are drawn, of a body that has them; the union ControlNet of
            SDXL was not trained with either.
    """

    depth_floor: float = 0.2
    depth_invert: bool = False
    hide_occluded: str = "face"
    stroke_scale: float = 1.0
    hands: bool = True
    face: bool = True


@dataclass
class Generation:
    """What draws the images: `checkpoint`, or `base_dir` with ControlNets. Every folder is on this machine.

    Attributes:
        checkpoint: of `methods.posepp.Generator`; empty for Stable Diffusion.
        base_dir: Stable Diffusion 1.5 or XL.
        depth_controlnet_dir: ControlNet for depth.
        keypoint_controlnet_dir: ControlNet for keypoints.
        union_dir: union ControlNet of Stable Diffusion XL, in place of these two.
        vae_dir: another autoencoder than that of `base_dir`, such as one that float16 does not break.
        variant: of the files of weights, such as `fp16`.
        dtype: `float32`, `bfloat16` or `float16`.
        device: `auto`, `cpu`, or as PyTorch names it.
        batch: images that are drawn at once.
        steps: of the sampler.
        guidance: classifier-free; at 1 or less the negative text is not read.
        scales: of depth and of keypoints; 0 leaves a map out.
        scheduler: `euler`, or `dpm` for DPM-Solver++(2M) with Karras' noise levels, which needs half the steps; the
            small generator always takes DDIM.
        format: `jpg`, or `png` without loss.
    """

    checkpoint: str = ""
    base_dir: str = ""
    depth_controlnet_dir: str | None = None
    keypoint_controlnet_dir: str | None = None
    union_dir: str | None = None
    vae_dir: str | None = None
    variant: str | None = None
    dtype: str = "bfloat16"
    device: str = "auto"
    batch: int = 8
    steps: int = 40
    guidance: float = 7.5
    scales: list[float] = field(default_factory=lambda: [0.8, 0.5])
    scheduler: str = "euler"
    format: str = "jpg"

    def files(self) -> dict[str, str]:
        """The file that is read before the folders of Stable Diffusion are, which are checked with all their parts."""
        return {"generation.checkpoint": self.checkpoint} if self.checkpoint or not self.base_dir else {}


@dataclass
class Settings:
    """Everything that the samples of a data set depend on, besides the files of body, poses and networks.

    Attributes:
        seed: of the run; a sample depends on it and on its number alone.
        samples: that are drawn; fewer are kept.
        shard_size: samples of a shard.
        image_size: side of images and condition maps, pixels.
    """

    seed: int = 0
    samples: int = 1000
    shard_size: int = 1000
    image_size: int = 1024
    poses: Poses = field(default_factory=Poses)
    body: Bodies = field(default_factory=Bodies)
    camera: View = field(default_factory=View)
    prompts: Prompts = field(default_factory=Prompts)
    conditions: Conditions = field(default_factory=Conditions)
    generation: Generation = field(default_factory=Generation)
    detect: Detector = field(default_factory=Detector)
    filter: Filter = field(default_factory=Filter)
    refine: Refinement = field(default_factory=Refinement)
    head: HeadPose = field(default_factory=HeadPose)

    def __post_init__(self) -> None:
        for name in ("samples", "shard_size", "image_size"):
            _check(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        sources = ("synthetic", "motion", "amass", "file")
        _check(self.poses.source in sources, "poses.source", self.poses.source, ", ".join(sources))
        _check(self.poses.number >= 1, "poses.number", self.poses.number, "at least 1")
        for name, most in (("scale", 100.0), ("field_of_view", 179.0)):
            low_high = getattr(self.camera, name)
            ordered = len(low_high) == 2 and 0.0 < low_high[0] <= low_high[1] <= most
            _check(ordered, f"camera.{name}", low_high, f"two numbers in order, above 0 and at most {most:g}")
        _check(self.camera.redraws >= 0, "camera.redraws", self.camera.redraws, "at least 0")
        _check(self.camera.shift >= 0, "camera.shift", self.camera.shift, "at least 0")
        _check(0 <= self.camera.least_inside <= 12, "camera.least_inside", self.camera.least_inside, "0 to 12")
        hide = self.conditions.hide_occluded
        _check(hide in ("face", "all", "none"), "conditions.hide_occluded", hide, "face, all or none")
        floor = self.conditions.depth_floor
        _check(0.0 <= floor < 1.0, "conditions.depth_floor", floor, "0 to 1, without 1")
        _check(self.conditions.stroke_scale > 0, "conditions.stroke_scale", self.conditions.stroke_scale, "above 0")
        self._check_generation()

    def _check_generation(self) -> None:
        options = self.generation
        for name, choices in (
            ("dtype", ("float32", "bfloat16", "float16")),
            ("scheduler", ("euler", "dpm")),
            ("format", ("jpg", "png")),
        ):
            _check(getattr(options, name) in choices, f"generation.{name}", getattr(options, name), ", ".join(choices))
        for name in ("batch", "steps"):
            _check(getattr(options, name) >= 1, f"generation.{name}", getattr(options, name), "at least 1")
        _check(options.guidance >= 0, "generation.guidance", options.guidance, "at least 0")
        two = len(options.scales) == 2 and min(options.scales) >= 0
        _check(two, "generation.scales", options.scales, "two numbers of at least 0, for depth and keypoints")

        labels.check(self.detect, self.filter, self.refine, self.head)

    @property
    def num_shards(self) -> int:
        return -(-self.samples // self.shard_size)

    def shard_samples(self, shard: int) -> range:
        """The numbers of the samples of a shard."""
        return range(shard * self.shard_size, min((shard + 1) * self.shard_size, self.samples))


def read_settings(paths: Sequence[Path], changes: Sequence[str] = (), begun: dict[str, Any] | None = None) -> Settings:
    """Settings of YAML files, later files before earlier ones.

    Args:
        paths: of the files; keys that they leave out have their defaults.
        changes: such as `camera.shift=0.2`, which count most.
        begun: settings as a data set keeps them, which count least.

    Raises:
        InputError: if a file cannot be read, or a key is unknown, of another type or out of range.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    source = "settings"
    try:
        merged = OmegaConf.merge(OmegaConf.structured(Settings), begun or {})
        for path in paths:
            source = str(path)
            merged = OmegaConf.merge(merged, OmegaConf.load(path))
        for change in changes:
            source = change
            merged = OmegaConf.merge(merged, OmegaConf.from_dotlist([change]))
        settings = OmegaConf.to_object(merged)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    except FileNotFoundError:
        raise InputError(f"{source} does not exist, expected a YAML file of settings") from None
    except (OmegaConfBaseException, YAMLError, OSError, ValueError) as error:
        why = str(error).partition("\n")[0]
        key = getattr(error, "full_key", None)
        raise InputError(f"{source}: {f'{key}: ' if key else ''}{why}") from error
    assert isinstance(settings, Settings)
    return settings


def fingerprint(*parts: Any) -> str:
    """Sixteen hexadecimal digits of settings, or of anything that is plain JSON."""
    plain = [asdict(part) if hasattr(part, "__dataclass_fields__") else part for part in parts]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def _check(good: bool, key: str, found: Any, expected: str) -> None:
    if not good:
        raise InputError(f"{key} is {found}, expected {expected}")
