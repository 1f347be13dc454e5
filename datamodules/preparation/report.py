"""What was prepared, in lines of text."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.prepared.folder import PreparedFolder

_SHOWN = 40  # sequences, doubts and skipped things that are told one by one
_FIRST = 5  # sequences that are shown of more than that


def summary(root: Path, manifest: dict[str, Any]) -> list[str]:
    """Counts of every sequence, or of the first few where there are many, and of the whole set.

    Args:
        root: prepared folder.
        manifest: its `dataset.json`.
    """
    folder = PreparedFolder(root, manifest["dataset"])
    sequences = folder.sequences
    shown = sequences if len(sequences) <= _SHOWN else sequences[:_FIRST]
    width = max(len(sequence["name"]) for sequence in shown)
    lines = [f"{'sequence':{width}}  {'split':10}  {'frames':>8}  {'valid':>8}  {'people':>7}  {'rows':>8}"]
    for sequence in shown:
        lines.append(f"{sequence['name']:{width}}  {sequence.get('split', 'all'):10}  " + _counts(folder, sequence))
    if len(shown) < len(sequences):
        lines.append(f"and {len(sequences) - len(shown):,} more, listed in dataset.json")
    rows, of_split = Counter[str](), Counter(sequence.get("split", "all") for sequence in sequences)
    for sequence in sequences:
        rows[sequence.get("split", "all")] += sequence["stop"] - sequence["start"]
    for what, total, parts in (("sequences", len(sequences), of_split), ("rows", folder.num_rows, rows)):
        lines.append(f"{root}: {total:,} {what} ({', '.join(f'{n:,} {split}' for split, n in parts.items())})")
    lines += [f"  {what}: {count:,}" for what, count in manifest["counts"].items()]
    lines.append("columns: " + ", ".join(manifest["columns"]))
    return lines


def _counts(folder: PreparedFolder, sequence: dict[str, Any]) -> str:
    rows = slice(sequence["start"], sequence["stop"])

    def of(name: str, default: int) -> np.ndarray:
        return folder.column(name)[rows] if name in folder else np.full(rows.stop - rows.start, default)

    # A data set of single images counts images where one of motion counts frames.
    frame = of("frame", 0) if np.ptp(of("frame", 0)) else of("picture", 0)
    valid, people = of("valid", 1).astype(bool), np.unique(of("person", 0))
    number = rows.stop - rows.start
    return f"{len(np.unique(frame)):8,}  {len(np.unique(frame[valid])):8,}  {len(people):7,}  {number:8,}"


def warnings(manifest: dict[str, Any]) -> list[str]:
    """Counts that differ from the literature, doubts about sequences, and what was skipped, one line each."""
    lines = []
    for count in manifest["expected"]:
        if count["found"] == count["expected"]:
            lines.append(f"{count['what']}: {count['found']:,}, as published")
        else:
            numbers = f"found {count['found']:,}, published {count['expected']:,}"
            lines.append(f"warning: {count['what']}: {numbers}: {_why(manifest, count)}")
    doubts = [f"warning: {about['name']}: {about['warning']}" for about in manifest["sequences"] if "warning" in about]
    lines += doubts[:_SHOWN]
    if len(doubts) > _SHOWN:
        lines.append(f"warning: {len(doubts) - _SHOWN} more, listed in dataset.json")
    skipped = manifest["skipped"]
    lines += [
        f"skipped: {file}: {reason}" if file not in reason else f"skipped: {reason}"
        for file, reason in skipped[:_SHOWN]
    ]
    if len(skipped) > _SHOWN:
        lines.append(f"skipped: {len(skipped) - _SHOWN} more, listed in dataset.json")
    return lines


def _why(manifest: dict[str, Any], count: dict[str, Any]) -> str:
    if count["found"] == 0:
        return "nothing of this part was in the source"
    if count["found"] > count["expected"]:
        return "the source holds more than the publication counts"
    skipped = ", or what was skipped belongs here" if manifest["skipped"] else ""
    return f"the source is a part of the data set or another release of it{skipped}"
