"""A page of kept and rejected samples, each kind with its reason, for the eye to judge what the filter does.

The images are the first of each kind, not chosen. Over the right one of each pair lies the drawing that was asked for.
"""

import io
from base64 import b64encode
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from methods.posepp.records import Record
from methods.posepp.stages import read_records, stages_of
from noise2pose.files import write_png, write_text
from noise2pose.rendering.people import captioned
from noise2pose.shards import read_manifest, shard_path

KEPT = "kept"
_SIDE = 160  # pixels of an image
_GAP = 4
_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title><style>
body { font: 15px/1.4 system-ui, sans-serif; margin: 1.5rem; color: #222; background: #fff }
section { margin-top: 1.5rem } h2 { font-size: 1.1rem; margin: 0 0 .4rem }
div.row { display: flex; flex-wrap: wrap; gap: .8rem } figure { margin: 0; width: {{ 2 * side }}px }
figure img { width: 100%; display: block } figcaption { font-size: .8rem; color: #444 }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #181818 } figcaption { color: #aaa } }
</style></head><body><h1>{{ title }}</h1>
<p>{{ total }} samples, {{ counts.get("kept", 0) }} kept. The first of each kind, not chosen: the image, and the same
with the keypoints that were asked for.</p>
{% for group, shown in groups.items() %}<section><h2>{{ group }}: {{ counts[group] }}
({{ "%.1f" | format(100 * counts[group] / total) }} %)</h2><div class="row">
{% for each in shown %}<figure><img alt="{{ group }} {{ each.id }}" src="data:image/png;base64,{{ each.png }}">
<figcaption>{{ each.id }}: {{ each.text }}<br>{{ each.about }}</figcaption></figure>
{% endfor %}</div></section>
{% endfor %}</body></html>
"""


class Shown(NamedTuple):
    """A sample on the page."""

    id: int
    pair: UInt8[np.ndarray, "side twice 3"]
    text: str
    about: str

    @property
    def png(self) -> str:
        buffer = io.BytesIO()
        Image.fromarray(self.pair).save(buffer, format="PNG")
        return b64encode(buffer.getvalue()).decode()


def count_reasons(folder: Path, shards: Sequence[int]) -> Counter[str]:
    """How many samples were kept, and how many were left out for each reason."""
    last = stages_of(folder)[-1]
    entries = (entry for shard in shards for entry in read_manifest(shard_path(folder / last, shard)))
    return Counter(entry["reason"] or KEPT for entry in entries)


def collect(folder: Path, shards: Sequence[int], each: int) -> dict[str, list[Shown]]:
    """The first samples with an image, by reason; those that were kept come first.

    Args:
        folder: of the data set.
        shards: to look through until there are enough.
        each: samples of a reason at most.
    """
    counts = count_reasons(folder, shards)
    wanted = {reason: each for reason in sorted(counts, key=lambda reason: (reason != KEPT, reason))}
    groups: dict[str, list[Shown]] = {reason: [] for reason in wanted}
    present = stages_of(folder)
    for shard in shards:
        if all(len(shown) >= min(each, counts[reason]) for reason, shown in groups.items()):
            break
        for record, entries in read_records(present, folder, shard):
            reason = entries[present[-1]]["reason"] or KEPT
            if len(groups[reason]) < each and "generate" in record.files:
                groups[reason].append(_shown(record))
    return {reason: shown for reason, shown in groups.items() if shown}


def write_contact_sheet(folder: Path, shards: Sequence[int], each: int = 8) -> None:
    """Writes `contact_sheet.html` and `contact_sheet.png`.

    Args:
        folder: of the data set.
        shards: its shards.
        each: samples of a reason at most.
    """
    from jinja2 import Environment

    groups, counts = collect(folder, shards, each), count_reasons(folder, shards)
    title = f"Generated people: {folder.name}"
    page = Environment(autoescape=True).from_string(_PAGE)
    total = sum(counts.values())
    write_text(
        folder / "contact_sheet.html",
        page.render(title=title, groups=groups, counts=counts, total=total, side=_SIDE),
    )
    if groups:
        write_png(folder / "contact_sheet.png", _sheet(groups, counts))


def _sheet(groups: dict[str, list[Shown]], counts: Counter[str]) -> UInt8[np.ndarray, "H W 3"]:
    """Pairs in rows on white, the reason and how often it was given over the first of each."""
    columns = max(min(4, len(shown)) for shown in groups.values())
    rows = []
    for reason, shown in groups.items():
        panels = [
            captioned(one.pair, f"{reason} ({counts[reason]})" if not n else reason) for n, one in enumerate(shown)
        ]
        rows += [panels[start : start + columns] for start in range(0, len(panels), columns)]
    height, width = _SIDE + _GAP, 2 * _SIDE + _GAP
    sheet = np.full((height * len(rows), width * columns, 3), 255, dtype=np.uint8)
    for row, panels in enumerate(rows):
        for column, panel in enumerate(panels):
            sheet[row * height : row * height + _SIDE, column * width : column * width + 2 * _SIDE] = panel
    return sheet


def _shown(record: Record) -> Shown:
    kind = next(kind for kind in ("jpg", "png") if kind in record.files["generate"])
    image = _resized(record.image("generate", kind))
    drawing = _resized(record.image("render", "keypoints.png"))
    strength = drawing.max(axis=-1, keepdims=True) / 255.0
    over = np.rint(image * (1.0 - 0.8 * strength) + 0.8 * drawing).clip(0, 255).astype(np.uint8)
    facts = record.facts("sample")
    verdict: dict[str, Any] = record.facts("filter") if "json" in record.files.get("filter", {}) else {}
    about = [f"yaw {facts['yaw']:.0f}"]
    about += [
        f"{key} {verdict[key]:.2f}" for key in ("ap", "oks", "oks_mirrored") if isinstance(verdict.get(key), float)
    ]
    return Shown(record.id, np.concatenate((image, over), axis=1), facts["text"], ", ".join(about))


def _resized(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS))
