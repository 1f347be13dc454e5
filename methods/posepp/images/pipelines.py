"""What draws the images: Stable Diffusion (XL) with ControlNets from local folders, or the small generator.

Nothing is ever downloaded: every network is a folder on this machine, as `save_pretrained` of diffusers writes it.

Shape letters: B batch, H rows, W columns.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from methods.posepp.images.network_folders import folder_hash, loading, network_folder, one_line, read_config
from methods.posepp.settings import Generation
from noise2pose.errors import InputError
from noise2pose.files import sha256

_XL = ("StableDiffusionXLPipeline", "StableDiffusionXLControlNetPipeline", "StableDiffusionXLControlNetUnionPipeline")
_SD = ("StableDiffusionPipeline", "StableDiffusionControlNetPipeline")
_UNION_MODES = [1, 0]  # of depth and of keypoints in the union ControlNet
_KEPT_TEXTS = 1024  # whose embeddings stay in memory, half a megabyte each for SDXL


class Prompt(NamedTuple):
    """What an image should show, and what it should not."""

    text: str
    negative: str = ""


class ImageGenerator(Protocol):
    """Draws images of people under two conditions.

    Attributes:
        facts: what the images depend on besides the samples, plain JSON: networks with their hashes, steps, scales.
    """

    facts: dict[str, Any]

    def generate(
        self,
        prompts: Sequence[Prompt],
        depth: Float[Tensor, "B 3 H W"],
        keypoints: Float[Tensor, "B 3 H W"],
        seeds: Sequence[int],
    ) -> Float[Tensor, "B 3 H W"]:
        """Draws one image for each sample.

        Args:
            prompts: B.
            depth: near is white, in [0, 1].
            keypoints: OpenPose's drawing, in [0, 1].
            seeds: B, of the noise that each image starts from.

        Returns:
            RGB in [0, 1], on the CPU.
        """
        ...


def load_generator(settings: Generation) -> ImageGenerator:
    """The generator that settings name: of `checkpoint`, else of `base_dir`.

    Raises:
        InputError: if a folder is missing, is none of such a network, or cannot be read.
    """
    if settings.checkpoint:
        return SmallGenerator(settings)
    return ControlNetGenerator(settings)


class SmallGenerator:
    """The project's own generator, which takes no text.

    Args:
        settings: `checkpoint`, `device`, `steps`, `guidance` and `scales`.
    """

    def __init__(self, settings: Generation) -> None:
        from methods.checkpoints import find_checkpoint, load_method
        from methods.posepp.images.diffusion import Sampling
        from methods.posepp.module import Generator

        path = find_checkpoint(settings.checkpoint)
        method = load_method(path)
        if not isinstance(method, Generator):
            raise InputError(f"generation.checkpoint: {path} holds {method.title}, expected methods.posepp.Generator")
        self.network = method.denoiser.to(device_of(settings))
        depth, keypoints = settings.scales
        self.sampling = Sampling(settings.steps, settings.guidance, (depth, keypoints))
        weights = path / "model.safetensors" if path.is_dir() else path
        self.facts = {**_facts(settings, "ddim"), "pipeline": "Generator", "networks": {"checkpoint": sha256(weights)}}

    def generate(
        self,
        prompts: Sequence[Prompt],
        depth: Float[Tensor, "B 3 H W"],
        keypoints: Float[Tensor, "B 3 H W"],
        seeds: Sequence[int],
    ) -> Float[Tensor, "B 3 H W"]:
        """As `ImageGenerator.generate`, without a look at the texts.

        Raises:
            InputError: if the maps are of another size than the generator's images.
        """
        from methods.posepp.images.diffusion import Maps, draw_images

        side = self.network.image_size
        if depth.shape[-2:] != (side, side):
            raise InputError(
                f"image_size is {depth.shape[-1]}, but the generator of this checkpoint draws {side} pixels"
            )
        device = next(self.network.parameters()).device
        maps = Maps(depth[:, :1].to(device), keypoints.to(device))
        return draw_images(self.network, maps, seeds, self.sampling).cpu()


class ControlNetGenerator:
    """Stable Diffusion 1.5 or XL with a ControlNet for each map, or SDXL with the union ControlNet for both.

    Args:
        settings: folders, variant, dtype, device, steps, guidance, scales and scheduler.
    """

    def __init__(self, settings: Generation) -> None:
        # Tokenisers look for news of local folders otherwise.
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        base = network_folder("base_dir", settings.base_dir, "model_index.json")
        name = read_config(base / "model_index.json").get("_class_name")
        if name not in (*_XL, *_SD):
            raise InputError(f"{base / 'model_index.json'}: _class_name is {name}, expected {_XL[0]} or {_SD[0]}")
        self.xl, self.union = name in _XL, settings.union_dir is not None
        self.settings = settings
        nets = self._controlnets(base)
        self.pipeline: Any = self._load(base, nets)
        self._embedded: dict[str, tuple[Tensor, ...]] = {}
        folders = {"base_dir": base, **nets}
        if settings.vae_dir:
            folders["vae_dir"] = Path(settings.vae_dir)
        self.facts = {
            **_facts(settings, settings.scheduler),
            "pipeline": type(self.pipeline).__name__,
            "dtype": settings.dtype,
            "networks": {key: folder_hash(folder, settings.variant) for key, folder in folders.items()},
        }

    def generate(
        self,
        prompts: Sequence[Prompt],
        depth: Float[Tensor, "B 3 H W"],
        keypoints: Float[Tensor, "B 3 H W"],
        seeds: Sequence[int],
    ) -> Float[Tensor, "B 3 H W"]:
        """As `ImageGenerator.generate`.

        Raises:
            InputError: if the autoencoder has no images of this size; they would be smaller than the labels say.
        """
        factor = self.pipeline.vae_scale_factor
        if depth.shape[2] % factor or depth.shape[3] % factor:
            raise InputError(f"image_size is {depth.shape[3]}, expected a multiple of {factor} for these networks")
        # One tensor for each ControlNet: lists of lists are refused by SDXL, and read in another order by SD 1.5.
        maps = [depth, keypoints]
        shown = {"control_image": maps, "control_mode": _UNION_MODES} if self.union else {"image": maps}
        # On the CPU, so that every type of device starts from the same noise.
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        if self.union:
            self._separate_images(len(seeds))
        with torch.inference_mode():
            drawn = self.pipeline(
                **self._embeddings(prompts),
                **shown,
                height=depth.shape[2],
                width=depth.shape[3],
                num_inference_steps=self.settings.steps,
                guidance_scale=self.settings.guidance,
                controlnet_conditioning_scale=list(self.settings.scales),
                generator=generators,
                output_type="pt",
            )
        return drawn.images.float().cpu()

    def _separate_images(self, number: int) -> None:
        """Keeps the images of a batch from each other: the union ControlNet of diffusers attends over the batch.

        With one image this attention sees the image and its unconditional twin, which have the same features, so the
        answer is that of attention to itself; the mask makes it so in every batch.
        """
        rows = number * (2 if self.settings.guidance > 1.0 else 1)
        mask = torch.full((rows, rows), -torch.inf).fill_diagonal_(0.0)
        for layer in self.pipeline.controlnet.transformer_layes:
            layer.attn_mask = mask

    def _embeddings(self, prompts: Sequence[Prompt]) -> dict[str, Tensor]:
        """What the text encoders make of the prompts."""
        wanted = [self._embed(prompt.text) for prompt in prompts]
        unwanted = [self._embed(prompt.negative) for prompt in prompts]
        names = ("prompt_embeds", "pooled_prompt_embeds") if self.xl else ("prompt_embeds",)
        columns: dict[str, Tensor] = {}
        for number, name in enumerate(names):
            columns[name] = torch.cat([parts[number] for parts in wanted])
            columns[f"negative_{name}"] = torch.cat([parts[number] for parts in unwanted])
        return columns

    @torch.inference_mode()
    def _embed(self, text: str) -> tuple[Tensor, ...]:
        """The embedding of a text, and for SDXL the pooled one; each text is encoded once, by itself."""
        if text not in self._embedded:
            if len(self._embedded) >= _KEPT_TEXTS:
                self._embedded.pop(next(iter(self._embedded)))  # the oldest
            found = self.pipeline.encode_prompt(
                prompt=text,
                device=self.pipeline._execution_device,
                num_images_per_prompt=1,
                do_classifier_free_guidance=False,
            )
            self._embedded[text] = (found[0], found[2]) if self.xl else (found[0],)
        return self._embedded[text]

    def _controlnets(self, base: Path) -> dict[str, Path]:
        """The folders of the ControlNets, which must be for networks as wide as the base's."""
        if self.union and not self.xl:
            raise InputError(f"generation.union_dir needs a Stable Diffusion XL, and {base} holds Stable Diffusion")
        keys = ("union_dir",) if self.union else ("depth_controlnet_dir", "keypoint_controlnet_dir")
        kind = "ControlNetUnionModel" if self.union else "ControlNetModel"
        width = read_config(base / "unet" / "config.json").get("cross_attention_dim")
        folders = {}
        for key in keys:
            folder = network_folder(key, getattr(self.settings, key), "config.json")
            config = read_config(folder / "config.json")
            if config.get("_class_name") != kind:
                raise InputError(
                    f"{folder / 'config.json'}: _class_name is {config.get('_class_name')}, expected {kind}"
                )
            if config.get("cross_attention_dim") != width:
                raise InputError(
                    f"generation.{key}: {folder} is for text of {config.get('cross_attention_dim')} numbers, but "
                    f"{base} has {width}: take a ControlNet of the same Stable Diffusion"
                )
            folders[key] = folder
        return folders

    def _load(self, base: Path, nets: dict[str, Path]) -> Any:
        import diffusers as of

        options = {
            "torch_dtype": getattr(torch, self.settings.dtype),
            "variant": self.settings.variant,
            "local_files_only": True,
        }

        def part(kind: Any, key: str, folder: Path) -> Any:
            return loading(f"generation.{key}: {folder}", lambda: kind.from_pretrained(str(folder), **options))

        kind = of.ControlNetUnionModel if self.union else of.ControlNetModel
        loaded = [part(kind, key, folder) for key, folder in nets.items()]
        # A folder that was saved with two ControlNets takes nothing but this wrapper.
        parts: dict[str, Any] = {"controlnet": loaded[0] if self.union else of.MultiControlNetModel(loaded)}
        if self.settings.vae_dir:
            folder = network_folder("vae_dir", self.settings.vae_dir, "config.json")
            parts["vae"] = part(of.AutoencoderKL, "vae_dir", folder)
        pipeline: Any = of.StableDiffusionControlNetPipeline
        if self.xl:
            pipeline = (
                of.StableDiffusionXLControlNetUnionPipeline if self.union else of.StableDiffusionXLControlNetPipeline
            )
            parts["add_watermarker"] = False
        else:
            parts["safety_checker"] = None
        pipe = loading(f"generation.base_dir: {base}", lambda: pipeline.from_pretrained(str(base), **parts, **options))
        schedulers = {
            "euler": (of.EulerDiscreteScheduler, {}),
            "dpm": (of.DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
        }
        scheduler, changes = schedulers[self.settings.scheduler]
        pipe.scheduler = scheduler.from_config(pipe.scheduler.config, **changes)
        pipe.vae.enable_slicing()  # decodes one image after the other, which bounds the memory
        pipe.set_progress_bar_config(disable=True)
        return pipe.to(device_of(self.settings))


def device_of(settings: Generation) -> torch.device:
    """The device that settings name; `auto` is the first GPU, or the CPU without one.

    Raises:
        InputError: if this machine has no such device.
    """
    name = ("cuda" if torch.cuda.is_available() else "cpu") if settings.device == "auto" else settings.device
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"generation.device is {name}, which cannot be used here: {one_line(error)}") from error


def _facts(settings: Generation, scheduler: str) -> dict[str, Any]:
    return {
        "steps": settings.steps,
        "guidance": settings.guidance,
        "scales": {"depth": settings.scales[0], "keypoints": settings.scales[1]},
        "scheduler": scheduler,
    }
