"""A small skeleton and motion in the layout of the CMU archive, written for the tests."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.preparation import engine
from datamodules.sources.cmu_mocap import files

_BONES = [  # name, parent, direction, length, axis, dof
    ("lhipjoint", "root", (0.7, -0.7, 0.1), 2.5, "0 0 0 XYZ", ""),
    ("lfemur", "lhipjoint", (0.34, -0.94, 0), 7.5, "0 0 20 XYZ", "rx ry rz"),
    ("ltibia", "lfemur", (0.34, -0.94, 0), 7.3, "0 0 20 XYZ", "rx"),
    ("lfoot", "ltibia", (0.1, -0.25, 0.96), 2.2, "-90 0 20 XYZ", "rx rz"),
    ("ltoes", "lfoot", (0, 0, 1), 1.1, "-90 0 20 XYZ", "rx"),
    ("lowerback", "root", (0, 1, -0.07), 2.0, "0 0 0 XYZ", "rx ry rz"),
    ("upperback", "lowerback", (0, 1, 0), 2.0, "0 0 0 XYZ", "rx ry rz"),
    ("thorax", "upperback", (0, 1, 0), 2.0, "0 0 0 XYZ", "rx ry rz"),
    ("lowerneck", "thorax", (0, 1, 0.1), 1.5, "0 0 0 XYZ", "rx ry rz"),
    ("upperneck", "lowerneck", (0, 1, 0), 1.5, "0 0 0 XYZ", "rx ry rz"),
    ("head", "upperneck", (0, 1, 0), 1.6, "0 0 0 XYZ", "rx ry rz"),
    ("lclavicle", "thorax", (0.97, 0.25, 0), 3.6, "0 0 0 XYZ", "ry rz"),
    ("lhumerus", "lclavicle", (1, 0, 0), 4.8, "180 -30 -90 XYZ", "rx ry rz"),
    ("lradius", "lhumerus", (1, 0, 0), 3.3, "180 -30 -90 XYZ", "rx"),
    ("lhand", "lradius", (1, 0, 0), 0.7, "0 90 90 XYZ", "rx rz"),
]


def bones():
    """The bones of both sides."""
    result = []
    for name, parent, direction, length, axis, dof in _BONES:
        result.append((name, parent, direction, length, axis, dof))
        if name.startswith("l") and name not in ("lowerback", "lowerneck"):
            other = "r" + parent[1:] if parent.startswith("l") and parent not in ("lowerback", "lowerneck") else parent
            x, y, z, order = axis.split()
            mirrored = f"{x} {-float(y)} {-float(z)} {order}"
            result.append(("r" + name[1:], other, (-direction[0], *direction[1:]), length, mirrored, dof))
    return result


def asf():
    """The skeleton file."""
    lines = [":version 1.10", ":name TEST", ":units", "  mass 1.0", "  length 0.45", "  angle deg", ":root"]
    lines += ["   order TX TY TZ RX RY RZ", "   axis XYZ", "   position 0 0 0", "   orientation 0 0 0", ":bonedata"]
    for number, (name, _, direction, length, axis, dof) in enumerate(bones(), start=1):
        lines += [
            "  begin",
            f"     id {number}",
            f"     name {name}",
            f"     direction {' '.join(map(str, direction))}",
        ]
        lines += [f"     length {length}", f"     axis {axis}"]
        lines += [f"    dof {dof}", "    limits (-90 90)"] if dof else []
        lines.append("  end")
    lines += [":hierarchy", "  begin"]
    for parent in ["root", *(name for name, *_ in bones())]:
        children = [name for name, above, *_ in bones() if above == parent]
        if children:
            lines.append(f"    {parent} {' '.join(children)}")
    return "\n".join([*lines, "  end", ""])


def amc(frames=240, seed=0):
    """A smooth motion; every channel swings."""
    generator = np.random.default_rng(seed)
    time = np.arange(frames) / 120.0
    swing = {
        "root": np.column_stack([time, 17 + 0.3 * np.sin(6 * time), -time, *(20 * np.sin(time) for _ in range(3))])
    }
    for name, _, _, _, _, dof in bones():
        if dof:
            phase = generator.uniform(0, 6, len(dof.split()))
            swing[name] = 25 * np.sin(3 * time[:, None] + phase)
    lines = ["#!OML:ASF test", ":FULLY-SPECIFIED", ":DEGREES"]
    for frame in range(frames):
        lines.append(str(frame + 1))
        lines += [f"{name} {' '.join(f'{value:.6g}' for value in values[frame])}" for name, values in swing.items()]
    return "\n".join([*lines, ""])


def write(folder: Path, takes: dict[str, int], frames: int) -> Path:
    """Writes so many takes of each subject; returns the folder."""
    for subject, number in takes.items():
        (folder / subject).mkdir(parents=True)
        (folder / subject / f"{subject}.asf").write_text(asf())
        for take in range(1, number + 1):
            (folder / subject / f"{subject}_{take:02d}.amc").write_text(amc(frames=frames, seed=take))
    return folder


def prepare(source: Path, output: Path, source_fps: float = 120.0) -> dict[str, Any]:
    """What `scripts/prepare.py cmu_mocap` does, in this process; returns the manifest."""
    plan = files.plan([source], output, argparse.Namespace(source_fps=source_fps))
    return engine.prepare(plan, output, num_workers=0)
