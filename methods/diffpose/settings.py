"""What a variant of DiffPose is unless its arguments say otherwise: the sizes and steps of release and paper."""

from dataclasses import dataclass, replace
from typing import Literal

from noise2pose.errors import InputError

Variant = Literal["release", "paper", "standard", "single_step", "stacked"]


@dataclass(frozen=True)
class Settings:
    """Settings of a variant; all fields but the title are arguments of `DiffPose`."""

    title: str
    width: int = 256
    num_blocks: int = 3
    num_diffusion_steps: int = 50
    num_sampling_steps: int = 10
    answer_calls: int = 1
    num_hypotheses: int = 5


_DEFAULTS: dict[Variant, Settings] = {
    "release": Settings(
        "DiffPose (release)", 96, 5, num_diffusion_steps=51, num_sampling_steps=2, answer_calls=2, num_hypotheses=1
    ),
    "paper": Settings("DiffPose (paper)"),
    "standard": Settings("Stand-Diff"),
    "single_step": Settings("Baseline A (single step)", num_sampling_steps=1, num_hypotheses=1),
    "stacked": Settings("Baseline B (stacked)", num_sampling_steps=5, answer_calls=5, num_hypotheses=1),
}


def resolve_settings(variant: Variant, num_components: int, num_mixture_samples: int, **given: int | None) -> Settings:
    """The given settings, with the variant's defaults for those that are None.

    Raises:
        InputError: if a setting is out of range.
    """
    default = _DEFAULTS[variant]
    settings = replace(default, **{name: value for name, value in given.items() if value is not None})
    if not 1 <= settings.num_sampling_steps <= settings.num_diffusion_steps:
        raise InputError(
            f"model.num_sampling_steps is {settings.num_sampling_steps}, expected 1 to num_diffusion_steps "
            f"({settings.num_diffusion_steps})"
        )
    if default.num_hypotheses == 1:  # nothing is drawn at random
        if settings.num_hypotheses > 1:
            raise InputError(f"variant {variant} draws nothing at random, so model.num_hypotheses can only be 1")
        if given.get("answer_calls") not in (None, settings.num_sampling_steps):
            raise InputError(f"variant {variant} answers with its last call: set model.answer_calls to null")
        settings = replace(settings, answer_calls=settings.num_sampling_steps)
    if not 1 <= settings.answer_calls <= settings.num_sampling_steps:
        raise InputError(
            f"model.answer_calls is {settings.answer_calls}, expected 1 to num_sampling_steps "
            f"({settings.num_sampling_steps})"
        )
    if not 1 <= num_components <= num_mixture_samples:
        raise InputError(
            f"model.num_components is {num_components}, expected 1 to num_mixture_samples ({num_mixture_samples})"
        )
    if settings.num_hypotheses < 1:
        raise InputError(f"model.num_hypotheses is {settings.num_hypotheses}, expected at least 1")
    return settings
