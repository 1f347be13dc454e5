"""Parameterised human activities on the free body: every clip is another person with another style.

An activity is a short function that sets joint angles over time on `ClipAngles`; `generate` adds what all share: a
person (body shape, heading), smooth small movements, joint limits and contact with the ground.
"""

import sys
import time
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import roma
import torch
from lightning.pytorch.utilities import rank_zero_only

from datamodules.motion.clips import FPS, GRAVITY, ON_ALL_FOURS, Array, ClipAngles, euler, ground, limited, wander


class Motion(NamedTuple):
    """One clip.

    Attributes:
        rotations: (F, 24, 3) axis-angle of the SMPL joints.
        translation: (F, 3) of the body in metres, y up, ground at 0.
        betas: (10,) body shape.
    """

    rotations: Array
    translation: Array
    betas: Array


def _stride(clip: ClipAngles, frequency: float, reach: float, knee: float, arms: float) -> None:
    """Legs that walk or run, and arms that swing against them."""
    for side, phase in (("left", 0.0), ("right", 0.5)):
        forward = clip.swing(frequency, phase)
        lifted = np.clip(clip.swing(frequency, phase + 0.2), 0.0, None)  # knee bends while the leg comes forward
        clip.add(f"{side}_hip", x=-reach * forward - 0.25 * knee * lifted)
        clip.add(f"{side}_knee", x=6.0 + knee * lifted)
        clip.add(f"{side}_ankle", x=-0.25 * knee * lifted + 0.5 * reach * np.clip(-forward, 0.0, None))
        clip.add(f"{side}_shoulder", x=arms * forward)
        clip.add(f"{side}_elbow", y=-0.4 * arms * (1.0 - forward))
    clip.add("spine3", y=0.25 * arms * clip.swing(frequency, 0.0))
    clip.turn[:, 1] += -0.2 * reach * clip.swing(frequency, 0.0)


def _walk(clip: ClipAngles) -> None:
    _stride(clip, clip.uniform(0.7, 1.05), clip.uniform(18, 28), clip.uniform(45, 60), clip.uniform(10, 30))
    clip.turn[:, 1] += clip.uniform(-15, 15) * clip.time
    clip.add("spine1", x=clip.uniform(0, 8))


def _run(clip: ClipAngles) -> None:
    frequency = clip.uniform(1.25, 1.6)
    _stride(clip, frequency, clip.uniform(30, 42), clip.uniform(80, 105), clip.uniform(30, 45))
    for side in ("left", "right"):
        clip.add(f"{side}_elbow", y=-clip.uniform(55, 75))
        clip.add(f"{side}_knee", x=12.0)
    clip.turn[:, 0] += clip.uniform(5, 14)
    # Twice a stride the body flies; the height is what gravity allows in that time.
    flight = 0.28 / (2.0 * frequency)
    into = np.mod(clip.time + 0.17 / frequency, 1.0 / (2.0 * frequency))
    clip.lift += np.where(into < flight, 0.5 * GRAVITY * into * (flight - into), 0.0)


def _jump(clip: ClipAngles) -> None:
    height = clip.uniform(0.12, 0.4)
    flight = 2.0 * np.sqrt(2.0 * height / GRAVITY)
    period, crouch = flight + clip.uniform(0.9, 1.4), clip.uniform(0.35, 0.5)
    start = clip.uniform(0.2, 0.5)
    depth = clip.pulses(period, crouch, 0.05, 0.16, start) + 0.6 * clip.pulses(
        period, 0.14, 0.05, 0.35, start + crouch + 0.21 + flight - 0.02
    )
    clip.bend(np.clip(depth, 0, 1) * clip.uniform(0.6, 0.9), lean=clip.uniform(0.4, 0.9))
    into = np.mod(clip.time - start - crouch - 0.21, period)
    clip.lift += np.where(into < flight, 0.5 * GRAVITY * into * (flight - into), 0.0)
    raised = clip.pulses(period, 0.4, 0.8 * flight, 0.45, start + crouch - 0.15)
    height_of_arms, swing_back = clip.uniform(50, 110), 25 * clip.pulses(period, crouch, 0, 0.35, start - 0.1)
    for side in ("left", "right"):
        clip.add(f"{side}_shoulder", x=swing_back - height_of_arms * raised)
        clip.add(f"{side}_ankle", x=30 * clip.pulses(period, 0.1, flight * 0.7, 0.15, start + crouch + 0.1))


def _squat(clip: ClipAngles) -> None:
    period = clip.uniform(1.6, 2.4)
    depth = clip.pulses(period, 0.4 * period, 0.1 * period, 0.4 * period, clip.uniform(0, 0.4))
    clip.bend(depth * clip.uniform(0.75, 1.15), lean=clip.uniform(0.5, 1.0))
    forward = clip.uniform(50, 90)
    for side in ("left", "right"):
        clip.add(f"{side}_shoulder", x=-forward * depth)
        clip.add(f"{side}_hip", z=clip.uniform(4, 14), y=clip.uniform(0, 12))


def _sit_down(clip: ClipAngles) -> None:
    down = clip.pulse(clip.uniform(0.1, 0.4), clip.uniform(0.8, 1.1), 10.0, 1.0)
    for side in ("left", "right"):
        clip.add(f"{side}_hip", x=-88 * down)
        clip.add(f"{side}_knee", x=clip.uniform(82, 100) * down)
        clip.add(f"{side}_shoulder", x=-clip.uniform(20, 45) * down)
        clip.add(f"{side}_elbow", y=-clip.uniform(20, 50) * down)
    lean = 35.0 * down * (1.0 - down) * 4.0 * 0.25 + clip.uniform(-8, 6) * down
    clip.turn[:, 0] += lean
    for joint in ("spine1", "spine2"):
        clip.add(joint, x=clip.uniform(2, 14) * down + 0.6 * lean)


def _reach(clip: ClipAngles) -> None:
    side = clip.side()
    out = clip.pulse(clip.uniform(0.1, 0.3), clip.uniform(0.5, 0.8), clip.uniform(0.2, 0.5), 0.6)
    height, across = clip.uniform(20, 160), clip.uniform(-20, 45)
    clip.add(f"{side}_shoulder", x=-height * out, z=across * out)
    clip.add(f"{side}_elbow", y=clip.uniform(0, 15) * out)
    low = max(0.0, (70 - height) / 70)
    clip.bend(low * 0.7 * out, lean=1.0)
    clip.add("spine2", x=15 * low * out, y=-(15 if side == "left" else -15) * out)
    clip.add("neck", x=(20 - 0.25 * height) * out)


def _wave(clip: ClipAngles) -> None:
    side, rate = clip.side(), clip.uniform(1.2, 2.2)
    up = clip.pulse(clip.uniform(0, 0.2), 0.5, 10.0, 0.5)
    clip.add(f"{side}_shoulder", z=clip.uniform(50, 85) * up, y=-clip.uniform(0, 25) * up, x=-clip.uniform(10, 40) * up)
    clip.add(f"{side}_elbow", y=-clip.uniform(15, 40) * up, z=(30 + 25 * clip.swing(rate)) * up)
    clip.add(f"{side}_wrist", z=20 * clip.swing(rate, 0.1) * up)
    clip.add("neck", y=clip.uniform(-20, 20))


def _punch(clip: ClipAngles) -> None:
    period = clip.uniform(0.8, 1.3)
    stance = clip.uniform(0.15, 0.3)
    clip.bend(stance, lean=0.3)
    for side, offset in (("left", 0.0), ("right", period / 2)):
        out = clip.pulses(period, 0.14, 0.05, 0.25, offset)
        clip.add(f"{side}_shoulder", x=-30 - 52 * out, z=8 + 12 * out, y=20 - 20 * out)
        clip.add(f"{side}_elbow", y=-105 + 98 * out)
        turn = 22 * out
        clip.add("spine2", y=-turn / 2 if side == "left" else turn / 2)
        clip.add("spine3", y=-turn / 2 if side == "left" else turn / 2)
    front = clip.side()
    back = "right" if front == "left" else "left"
    clip.add(f"{front}_hip", x=-18)
    clip.add(f"{back}_hip", x=16)
    clip.add(f"{back}_ankle", x=-4)


def _kick(clip: ClipAngles) -> None:
    side = clip.side()
    other = "right" if side == "left" else "left"
    period, height = clip.uniform(1.6, 2.2), clip.uniform(45, 90)
    start = clip.uniform(0.1, 0.4)
    back = clip.pulses(period, 0.35, 0.0, 0.35, start)
    out = clip.pulses(period, 0.38, 0.05, 0.5, start + 0.3)
    clip.add(f"{side}_hip", x=18 * back - height * out)
    clip.add(f"{side}_knee", x=75 * back + 12 * out)
    clip.add(f"{side}_ankle", x=20 * out)
    clip.turn[:, 0] += 6 * back - 10 * out
    for joint, sign in ((side, 1.0), (other, -1.0)):
        clip.add(f"{joint}_shoulder", x=sign * 40 * out, z=20 * (out + back))
    clip.add(f"{other}_knee", x=14 + 8 * out)
    clip.add(f"{other}_hip", x=-8)


def _turn(clip: ClipAngles) -> None:
    rate = clip.uniform(45, 110) * (1 if clip.random.random() < 0.5 else -1)
    frequency = clip.uniform(0.9, 1.3)
    _stride(clip, frequency, clip.uniform(3, 8), clip.uniform(25, 40), clip.uniform(3, 10))
    clip.turn[:, 1] += rate * clip.time
    clip.add("spine3", y=np.clip(rate / 6, -20, 20))
    clip.add("neck", y=np.clip(rate / 4, -30, 30))


def _crawl(clip: ClipAngles) -> None:
    clip.contacts = ON_ALL_FOURS
    frequency, reach = clip.uniform(0.5, 0.8), clip.uniform(12, 22)
    clip.turn[:, 0] += clip.uniform(72, 84)
    for side, phase in (("left", 0.0), ("right", 0.5)):
        forward = clip.swing(frequency, phase)
        raised = np.clip(clip.swing(frequency, phase + 0.25), 0.0, None)
        clip.add(f"{side}_hip", x=-78 - reach * forward)
        clip.add(f"{side}_knee", x=88 + 12 * raised)
        clip.add(f"{side}_ankle", x=40)
        clip.add(f"{side}_shoulder", x=-82 + reach * forward)  # the arm moves against the leg of its side
        clip.add(f"{side}_elbow", y=-25 * np.clip(clip.swing(frequency, phase + 0.75), 0.0, None))
        clip.add(f"{side}_wrist", z=60)
    for joint in ("neck", "skull_base"):
        clip.add(joint, x=-clip.uniform(15, 25))


def _dance(clip: ClipAngles) -> None:
    beat = clip.uniform(0.8, 1.3)
    clip.bend(0.12 + 0.12 * clip.swing(2 * beat), lean=0.2)
    for side, phase in (("left", 0.0), ("right", 0.5)):
        up = 0.5 + 0.5 * clip.swing(beat / 2, phase + clip.uniform(-0.1, 0.1))
        clip.add(f"{side}_shoulder", z=clip.uniform(40, 120) * up, x=-clip.uniform(0, 60) * (1 - up))
        clip.add(f"{side}_elbow", y=-clip.uniform(30, 80) * (0.5 + 0.5 * clip.swing(beat, phase)))
        step = np.clip(clip.swing(beat / 2, phase + 0.3), 0.0, None)
        clip.add(f"{side}_hip", x=-40 * step, z=14 * step)
        clip.add(f"{side}_knee", x=60 * step)
    sway = clip.swing(beat / 2)
    clip.turn[:, 2] += 7 * sway
    clip.turn[:, 1] += 25 * clip.swing(beat / 4, clip.uniform(0, 1))
    for joint, weight in (("spine1", -6), ("spine3", -5)):
        clip.add(joint, z=weight * sway, y=9 * clip.swing(beat / 2, 0.25))


ACTIVITIES: dict[str, Callable[[ClipAngles], None]] = {
    "walk": _walk,
    "run": _run,
    "jump": _jump,
    "squat": _squat,
    "sit_down": _sit_down,
    "reach": _reach,
    "wave": _wave,
    "punch": _punch,
    "kick": _kick,
    "turn": _turn,
    "crawl": _crawl,
    "dance": _dance,
}


# Training clips of each activity are numbered from 0; the other splits have numbers that no training reaches.
FIRST_SEED = {"train": 0, "val": 1_000_000, "test": 2_000_000}
CLIPS_OF_A_DRAW = 10_000  # at most, of an activity in a split
_SILENCE = 2.0  # seconds after which somebody who waits is told why
_SHARE = {"train": 1.0, "val": 0.1, "test": 0.2}


def number_of_clips(split: str, training: int) -> int:
    """Clips of each activity in a split, of which training has so many; at least one."""
    return max(1, round(training * _SHARE[split]))


def clips(split: str, training: int, num_frames: int, draw: int = 0) -> Iterator[tuple[str, int, Motion]]:
    """Activity, number and motion of every clip of a split; `training` as in `number_of_clips`.

    Another `draw` has other people, whose clips have other numbers. If they take long, one line on standard error says
    what is made, and how long the rest will take.
    """
    each = number_of_clips(split, training)
    total, made, started, said = each * len(ACTIVITIES), 0, time.monotonic(), False
    for activity in ACTIVITIES:
        for number in range(draw * CLIPS_OF_A_DRAW, draw * CLIPS_OF_A_DRAW + each):
            yield activity, number, generate(activity, num_frames, seed=FIRST_SEED[split] + number)
            made += 1
            spent = time.monotonic() - started
            if not said and spent > _SILENCE:
                said = True
                rest = spent * (total / made - 1)
                _print(f"making {total} clips of synthetic motion ({split}), about {rest:.0f} s more")


@rank_zero_only
def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def generate(activity: str, num_frames: int, seed: int, fps: float = FPS) -> Motion:
    """A clip of an activity; the same arguments give the same clip.

    Args:
        activity: key of `ACTIVITIES`.
        num_frames: F.
        seed: of the person and the style.
        fps: frames per second.
    """
    random = np.random.default_rng([seed, zlib.crc32(activity.encode())])
    clip = ClipAngles(num_frames, fps, random)
    ACTIVITIES[activity](clip)
    clip.angles += wander(clip, 2.0)
    rotations = euler(limited(clip.angles))
    heading = random.uniform(0, 360)
    turn = clip.turn + 0.5 * wander(clip, 1.5)[:, 0]
    turn[:, 1] += heading
    pitch, yaw, roll = turn.T
    zero = np.zeros_like(yaw)
    # Yaw about the world's vertical, then pitch and roll of the body.
    pelvis = euler(np.stack([zero, yaw, zero], -1)) @ euler(np.stack([pitch, zero, roll], -1))
    rotations[:, 0] = pelvis
    betas = np.clip(random.normal(0, 1, 10), -2, 2)
    translation = ground(rotations, betas, clip)
    rotvec = roma.rotmat_to_rotvec(torch.from_numpy(rotations)).numpy()
    return Motion(rotvec, translation, betas)
