"""People that a diffusion model has generated with known bodies, read from the shards of `noise2pose generate export`.

Six hundred thousand images are neither listed nor held in memory: the lists beside the shards say which samples there
are, and the order of an epoch follows from them before a shard is opened. So a resumed run goes on with the very batch
that it was killed before, opening only the shards that it still needs.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import roma
import torch
from jaxtyping import Int
from torch import Tensor

from datamodules.base import PoseDataModule, ResumableLoader, Split, check_range
from datamodules.mixture import join
from datamodules.prepared.shards import ShardOrder, sample_files
from noise2pose import cameras
from noise2pose.batch import PoseBatch
from noise2pose.bodies import BodyModel
from noise2pose.bodies.files import FREE_BODY
from noise2pose.errors import InputError
from noise2pose.files import sha256
from noise2pose.images.crops import crop
from noise2pose.metrics.protocols import MESH_JOINTS, Protocol
from noise2pose.shards import image_array, npz_arrays, read_manifest, shard_path

BODY_SKELETON, COCO = "h36m_17", "coco_17"
_SMPL_JOINTS = 23  # that a batch has besides the root; those that the shards lack rest
_GROUPED = 16  # samples of one task of a thread


class GeneratedPeople(PoseDataModule):
    """Kept samples of a generated data set; the first samples by number are held out, so splits share no image.

    Labels are those of the body: exact where the image shows what was asked for. With `skeleton: coco_17` the 2-D
    keypoints are the refined ones, where the data set has them.

    Args:
        root: folder of the data set, with `dataset.json` and `export/`.
        skeleton: `h36m_17`, the joints that methods of bodies are trained and measured with, or `coco_17`.
        images: whether batches have images; without, no network could tell the set from rendered keypoints.
        picture_size: side of the crops, pixels.
        held_out: share of the samples for validation, and as many again for the test.
        shuffle_buffer: samples that the order of an epoch is shuffled among, besides that of the shards; 0 reads
            everything into memory and shuffles all, which a `Mixture` does in any case.
        num_workers: threads that decode.
        body: `free`, or the body file that the data set was made with.
        batch_size, eval_batch_size, mixed_keypoints_2d: see `PoseDataModule`.
    """

    dataset = "generated_people"

    def __init__(
        self,
        root: str = "data/generated",
        skeleton: Literal["h36m_17", "coco_17"] = BODY_SKELETON,
        images: bool = True,
        picture_size: int = 224,
        held_out: float = 0.05,
        shuffle_buffer: int = 1000,
        num_workers: int = 2,
        body: str = "free",
        batch_size: int = 64,
        eval_batch_size: int = 64,
        mixed_keypoints_2d: bool = False,
    ) -> None:
        super().__init__(batch_size, eval_batch_size, mixed_keypoints_2d)
        check_range(1, picture_size=picture_size, num_workers=num_workers)
        check_range(0, shuffle_buffer=shuffle_buffer)
        check_range(0, 0.4, held_out=held_out)
        self.root = Path(root)
        self.skeleton = skeleton
        self.images = images
        self.picture_size = picture_size
        self.held_out = held_out
        self.shuffle_buffer = shuffle_buffer
        self.num_workers = num_workers
        self.body = body
        self._model: BodyModel | None = None

    def prepare_data(self) -> None:
        self.facts()
        self._listed("train")

    def facts(self) -> dict[str, Any]:
        """What the data set says of itself.

        Raises:
            InputError: if there is none, or it was made with another body than `body`.
        """
        path = self.root / "dataset.json"
        try:
            facts = json.loads(path.read_text())
        except FileNotFoundError:
            raise InputError(f"data.root: {path} does not exist; make it with `noise2pose generate all`") from None
        except (OSError, ValueError) as error:
            raise InputError(f"data.root: {path} cannot be read as JSON ({error})") from error
        file = FREE_BODY if self.body == "free" else Path(self.body)
        if not file.is_file() or sha256(file) != facts["body"]["sha256"]:
            made = facts["body"]
            raise InputError(
                f"data.body: {file} is not the body that {self.root} was made with, expected that of a "
                f"{made['gender']} {made['model']} model with {made['vertices']} vertices"
            )
        return facts

    def protocols(self, split: Split) -> list[Protocol]:
        protocol = Protocol(
            name=self.dataset,
            dataset=self.dataset,
            split=f"{split}: generated people, images of no other split",
            skeleton=self.skeleton,
            joints=MESH_JOINTS,
            keypoints_2d="gt",
        )
        if self.skeleton == COCO:  # which has no root for poses to be relative to
            of_points = {"joints": None, "alignment": "none", "units": "px", "dimensions": 2}
            protocol = replace(protocol, name=f"{self.dataset}_coco", **of_points)
        return [protocol]

    def training_loader(self) -> ResumableLoader:
        return self._streamed("train") if self.shuffle_buffer else super().training_loader()

    def _loader(self, split: Split, shuffle: bool) -> Any:
        return self._streamed(split) if self.shuffle_buffer else super()._loader(split, shuffle)

    def _streamed(self, split: Split) -> "ShardLoader":
        training = split == "train"
        rank, world_size = self.processes()
        size = self.batch_size if training else self.eval_batch_size
        listed = self._listed(split)
        options = {"seed": self._seed, "rank": rank, "world_size": world_size, "buffer": self.shuffle_buffer}
        return ShardLoader(self, ShardOrder(listed[:, 0], size, shuffle=training, **options), listed)

    def load(self, split: Split) -> PoseBatch:
        listed = self._listed(split)
        pieces = list(self.read(listed, torch.arange(len(listed)).split(_GROUPED)))
        if self.images:
            for piece in pieces:
                piece["image"] = (255.0 * piece["image"]).round().byte()
        return join(pieces)

    def _listed(self, split: Split) -> Int[np.ndarray, "N 2"]:
        """Shard and number of every sample of a split, in order."""
        folder, shard, listed = self.root / "export", 0, []
        while (path := shard_path(folder, shard)).exists():
            listed += [(shard, entry["id"]) for entry in read_manifest(path) if not entry["reason"]]
            shard += 1
        if not listed:
            raise InputError(f"data.root: {folder} has no samples; make them with `noise2pose generate export`")
        number = int(self.held_out * len(listed))
        start, stop = {"val": (0, number), "test": (number, 2 * number), "train": (2 * number, len(listed))}[split]
        if start == stop:
            raise InputError(
                f"data.held_out is {self.held_out}, which leaves none of {len(listed)} samples for {split}"
            )
        return np.array(listed[start:stop])

    def read(self, listed: Int[np.ndarray, "N 2"], batches: Iterable[Tensor]) -> Iterator[PoseBatch]:
        """Batches of samples, reading each shard once and in the order in which its first sample is needed.

        Args:
            listed: shard and number of the samples.
            batches: positions in `listed`; samples that lie far from each other in it wait in memory as files.
        """
        wanted = list(batches)
        files = sample_files(self.root / "export", listed, torch.cat(wanted).tolist() if wanted else [])
        with ThreadPoolExecutor(self.num_workers) as pool:
            for batch in wanted:
                samples = [next(files) for _ in batch]
                decoded = list(pool.map(self._decode, samples)) if self.images else [None] * len(samples)
                yield self._batch([int(listed[i, 1]) for i in batch.tolist()], samples, decoded)

    def _decode(self, files: dict[str, bytes]) -> Tensor:
        kind = next((kind for kind in ("jpg", "png") if kind in files), None)
        if kind is None:
            raise InputError(f"data.root: {self.root} has samples without images")
        box = torch.from_numpy(npz_arrays(files["npz"])["box"])
        return crop(np.array(image_array(files[kind])), box, self.picture_size)

    def _batch(self, ids: list[int], samples: list[dict[str, bytes]], images: list[Any]) -> PoseBatch:
        arrays = [npz_arrays(files["npz"]) for files in samples]
        facts = [json.loads(files["json"]) for files in samples]

        def stacked(key: str, width: int | None = None) -> Tensor:
            values = torch.from_numpy(np.stack([each[key] for each in arrays])).float()
            return values if width is None else values.unflatten(-1, (-1, width))

        pose = roma.rotvec_to_rotmat(stacked("body_pose", 3))
        rest = torch.eye(3).expand(len(pose), _SMPL_JOINTS - pose.shape[1], 3, 3)
        matrix = stacked("K")
        batch: PoseBatch = {
            "smpl": {
                "global_orient": roma.rotvec_to_rotmat(stacked("global_orient")),
                "body_pose": torch.cat((pose, rest), dim=1),
                "betas": stacked("betas"),
            },
            "has_smpl": torch.ones(len(ids), dtype=torch.bool),
            "camera_translation": stacked("transl"),
            "camera": {
                "focal": matrix[:, (0, 1), (0, 1)],
                "principal_point": matrix[:, :2, 2],
                "image_size": stacked("image_size"),
            },
            "box": stacked("box"),
            "sample_id": [f"generated_{number:08d}" for number in ids],
            "subject": [str(each["pose"]) for each in facts],
            "action": [str(each["action"]) for each in facts],
        }
        if self.images:
            batch["image"] = torch.stack(images)
        points, pixels = self._keypoints(batch, arrays, stacked)
        batch["keypoints_3d"] = torch.cat((points, torch.ones_like(points[..., :1])), dim=-1)
        batch["keypoints_2d"] = pixels
        return batch

    def _keypoints(self, batch: PoseBatch, arrays: Sequence[Any], stacked: Any) -> tuple[Tensor, Tensor]:
        """Joints in space (B, J, 3), and in the image with a confidence of 0 outside it (B, J, 3)."""
        if self.skeleton == COCO:
            return stacked("keypoints_3d"), stacked("keypoints_2d")
        if self._model is None:
            self._model = BodyModel.load(self.body)
        smpl, camera = batch["smpl"], batch["camera"]
        points = self._model.joints(
            smpl["global_orient"],
            self._model.complete(smpl["body_pose"]),
            smpl["betas"],
            batch["camera_translation"],
            regressor=BODY_SKELETON,
        )
        pixels = cameras.project(points, camera["focal"], camera["principal_point"])
        inside = ((pixels >= 0.0) & (pixels <= camera["image_size"][:, None])).all(dim=-1, keepdim=True)
        return points, torch.cat((pixels, inside.float()), dim=-1)


class ShardLoader(ResumableLoader):
    """Batches that are read from shards as they are needed."""

    def __init__(self, people: GeneratedPeople, order: ShardOrder, listed: Int[np.ndarray, "N 2"]) -> None:
        super().__init__(order)
        self.people = people
        self.listed = listed

    def batches(self, start: int) -> Iterator[PoseBatch]:
        return self.people.read(self.listed, list(self.sampler)[start:])
