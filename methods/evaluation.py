"""Measures predictions by the protocol of their evaluation set, in the same way for every method."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import SumMetric

from methods.mesh_batches import PinholeCamera, project_to_image
from noise2pose import keyed_random, skeletons
from noise2pose.batch import PoseBatch, Prediction
from noise2pose.bodies import BodyModel
from noise2pose.errors import InputError
from noise2pose.images.crops import bounds_of_keypoints
from noise2pose.metrics import pose_errors
from noise2pose.metrics.calibration import Calibration
from noise2pose.metrics.hypotheses import best_joints_of, best_of, null_hypotheses
from noise2pose.metrics.keys import ORACLE, POSE_ERRORS, PoseErrorKey, main_error, oracle_key
from noise2pose.metrics.pose_errors import JointErrors, PoseMetric
from noise2pose.metrics.protocols import Protocol, limb_joints
from noise2pose.metrics.similarity import area_of, in_similarity

_SMPL_JOINTS = "smpl_24"
_ORACLE_CHOICES = {"best": best_of, "best_joints": best_joints_of}  # among hypotheses; of whole poses, of each joint


class EvaluationSet(nn.Module):
    """The metrics of one evaluation set.

    Only errors of parts that both the prediction and the batch have are measured.

    Args:
        protocol: joints, root, groups of samples and kind of mean.
    """

    def __init__(self, protocol: Protocol) -> None:
        super().__init__()
        self.protocol = protocol
        self.metrics = nn.ModuleDict({key.name: _metric(key, protocol) for key in POSE_ERRORS})
        names = [f"{choice}{end}" for choice in _ORACLE_CHOICES for end in ("", "_null")]
        self.oracle = nn.ModuleDict({name: _metric(main_error(3), protocol) for name in names})
        self.calibration = Calibration(joints=protocol.joints, root=protocol.root)
        self.poses = SumMetric()
        self.people = _metric(main_error(protocol.dimensions), replace(protocol, average="poses"))
        self.joints = JointErrors(root=protocol.root)

    def update(self, batch: PoseBatch, prediction: Prediction, body: BodyModel | None) -> None:
        """Adds a batch.

        Args:
            batch: with ground truth; without `vertices` and `smpl_joints`, those of `body` with its `smpl` are taken.
            prediction: of the method.
            body: whose parameters the method predicts.

        Raises:
            InputError: if the batch lacks the groups of the protocol.
        """
        groups = self._groups(batch)
        flat = self.protocol.dimensions == 2
        truth = batch.get("keypoints_2d_gt", batch["keypoints_2d"]) if flat else batch["keypoints_3d"]
        self.poses.update((truth[..., -1] > 0).any(dim=-1).sum())
        if flat:
            self._update_pixels(batch, prediction, body, groups)
            return
        target, valid = batch["keypoints_3d"][..., :3], batch["keypoints_3d"][..., 3]
        self._add("joints", prediction["joints_3d"], target, valid, groups)
        self._add_people(prediction["joints_3d"], target, valid, batch)
        self.joints.update(prediction["joints_3d"], target, valid)
        if target.ndim == 4:
            self._add("clips", prediction["joints_3d"], target, valid, groups)
        if body is not None and "has_smpl" in batch:
            self._update_vertices(batch, prediction, body, groups)
            if self.protocol.smpl_joints and body.regressors[0] == _SMPL_JOINTS:
                self._update_smpl_joints(batch, prediction, body, groups)
            self._update_shape(batch, prediction, body, groups)
        hypotheses = prediction.get("hypotheses")
        if hypotheses is None or len(hypotheses) < 2:
            return
        root = self.protocol.root
        keys = keyed_random.keys_of(batch["sample_id"], device=target.device)
        self.calibration.update(hypotheses, target, valid)
        for end, candidates in (("", hypotheses), ("_null", null_hypotheses(hypotheses, keys))):
            for choice, choose in _ORACLE_CHOICES.items():
                metric: Any = self.oracle[f"{choice}{end}"]
                metric.update(choose(candidates, target, valid, root), target, valid, groups)

    def compute(self, num_hypotheses: int, needs_ground_truth: bool) -> dict[str, Tensor]:
        """Every metric that has poses on any process, by its name after `<split>/<dataset>/`.

        Args:
            num_hypotheses: of the method.
            needs_ground_truth: whether predictions were chosen with the ground truth; their names then start with
                `oracle/`.
        """
        prefix = ORACLE if needs_ground_truth else ""
        metrics: dict[str, Any] = {f"{prefix}{name}": metric for name, metric in self.metrics.items()}
        for name, metric in self.oracle.items():
            choice = f"{name.removesuffix('_null')}_of_{num_hypotheses}"
            metrics[oracle_key(choice, main_error(3).name, null=name.endswith("_null"))] = metric
        values = {name: metric.compute() for name, metric in metrics.items() if metric.update_called}
        values = {name: value for name, value in values.items() if not value.isnan()}  # NaN where no pose counted
        if self.calibration.update_called:
            values |= {f"calibration/{name}": value for name, value in self.calibration.compute().items()}
        return values

    def table(self) -> dict[str, Any]:
        """Means of each group and both averages, plain values; empty if the protocol has no groups.

        Returns:
            `of`, what a group is, and `metrics`: by name, `values` and `poses` of each group, `mean_of_groups`, which
            weighs groups alike, and `mean_over_poses`.
        """
        found = {}
        for name, metric in self.metrics.items():
            assert isinstance(metric, PoseMetric)
            groups = metric.per_group() if self.protocol.groups and metric.update_called else {}
            if groups:
                number = sum(group.poses for group in groups.values())
                found[name] = {
                    "values": {key: group.value for key, group in groups.items()},
                    "poses": {key: group.poses for key, group in groups.items()},
                    "mean_of_groups": sum(group.value for group in groups.values()) / len(groups),
                    "mean_over_poses": sum(group.value * group.poses for group in groups.values()) / number,
                }
        return {"of": self.protocol.groups, "metrics": found} if found else {}

    def per_person(self) -> dict[str, float]:
        """The main error of each person, by name; empty for data without names."""
        found = self.people.per_group() if self.people.update_called else {}
        return {name: group.value for name, group in found.items()}

    def per_joint(self) -> dict[str, float]:
        """The MPJPE of each joint that counts, by name; empty for 2-D ground truth."""
        if not self.joints.update_called:
            return {}
        names, counted = skeletons.get(self.protocol.skeleton).joints, self.protocol.joints
        values = dict(zip(names, self.joints.compute().tolist(), strict=True))
        kept = names if counted is None else [names[joint] for joint in counted]
        return {name: values[name] for name in kept if values[name] == values[name]}

    def curves(self) -> dict[str, list[float]]:
        """Relation of the spread of the hypotheses and their error, see `Calibration`; empty for a single answer."""
        if not self.calibration.update_called:
            return {}
        curves = {**self.calibration.sparsification(), "crps_per_joint": self.calibration.crps_per_joint()}
        return {name: values.tolist() for name, values in curves.items()}

    def reset(self) -> None:
        """Forgets all poses."""
        others = (self.calibration, self.poses, self.people, self.joints)
        for metric in (*self.metrics.values(), *self.oracle.values(), *others):
            metric.reset()  # pyright: ignore[reportCallIssue]

    def _groups(self, batch: PoseBatch) -> list[str] | None:
        key = self.protocol.groups
        if key is None:
            return None
        if key not in batch:
            raise InputError(f"{self.protocol.dataset}: protocol {self.protocol.name} needs the {key} of each sample")
        # "Walking 1" and "Walking 2" are one action, "Sitting" and "SittingDown" are two.
        return [name.split()[0] for name in batch["action"]] if key == "action" else batch["sequence"]

    def _add(self, compares: str, pred: Tensor, target: Tensor, valid: Tensor | None, groups: list[str] | None) -> None:
        """Updates every metric that compares this part of a pose."""
        for key in POSE_ERRORS:
            if key.compares == compares:
                metric: Any = self.metrics[key.name]
                metric.update(pred, target, valid, groups)

    def _add_people(self, pred: Tensor, target: Tensor, valid: Tensor, batch: PoseBatch) -> None:
        if "subject" in batch:
            self.people.update(pred, target, valid, batch["subject"])

    def _update_vertices(
        self, batch: PoseBatch, prediction: Prediction, body: BodyModel, groups: list[str] | None
    ) -> None:
        if "vertices" not in prediction:
            return
        known, root = batch["has_smpl"], self.protocol.root
        if "vertices" in batch:
            target = batch["vertices"]
            # The free body has as many vertices as SMPL, but they are other points.
            other = body.model_type == "free" and self.protocol.ground_truth.startswith("SMPL")
            if other or target.shape != prediction["vertices"].shape:
                return
            known = known & (batch["keypoints_3d"][:, root, 3] > 0)
            target, centre = target[known], batch["keypoints_3d"][known, root, :3]
        elif "smpl" in batch:
            given: Any = batch["smpl"]
            smpl = {key: value[known] for key, value in given.items()}
            target, centre = body(**smpl).vertices, body.joints(**smpl, regressor=self.protocol.skeleton)[:, root]
        else:
            return
        pred = prediction["vertices"][known]
        if self.protocol.vertex_root == "smpl":
            pelvis = body.joint_regressor[:1]
            pred, target = pred - pelvis @ pred, target - pelvis @ target
        else:
            target = target - centre[:, None]
        chosen = groups and [name for name, kept in zip(groups, known.tolist(), strict=True) if kept]
        self._add("vertices", pred, target, None, chosen)

    def _update_smpl_joints(
        self, batch: PoseBatch, prediction: Prediction, body: BodyModel, groups: list[str] | None
    ) -> None:
        if "smpl" not in prediction or not ("smpl_joints" in batch or "smpl" in batch):
            return
        given: Any = batch.get("smpl")
        target = batch["smpl_joints"] if "smpl_joints" in batch else body.joints(**given, regressor=_SMPL_JOINTS)
        answered: Any = prediction["smpl"]
        pred = body.joints(**answered, regressor=_SMPL_JOINTS)
        valid = batch["has_smpl"][:, None].expand(target.shape[:-1])
        self._add("smpl_joints", pred, target, valid, groups)

    def _update_shape(
        self, batch: PoseBatch, prediction: Prediction, body: BodyModel, groups: list[str] | None
    ) -> None:
        """Both shapes as meshes of the true body; betas of another body than SMPL mean nothing to it."""
        if "rest_basis" not in batch or "smpl" not in prediction or body.model_type != "smpl":
            return
        given: Any = batch["smpl"]
        answered: Any = prediction["smpl"]
        basis = batch["rest_basis"]
        pred, target = (
            basis[..., 0] + torch.einsum("bvcs,bs->bvc", basis[..., 1:], betas)
            for betas in (answered["betas"], given["betas"])
        )
        valid = batch["has_smpl"][:, None].expand(target.shape[:-1])
        self._add("shape", pred, target, valid, groups)

    def _update_pixels(
        self, batch: PoseBatch, prediction: Prediction, body: BodyModel | None, groups: list[str] | None
    ) -> None:
        pixels = self._pixels_of(batch, prediction, body)
        if pixels is None:
            return
        if "keypoints_2d_gt" not in batch and self.protocol.keypoints_2d != "gt":
            raise InputError(
                f"{self.protocol.dataset}: the 2-D input is {self.protocol.keypoints_2d}, and there are no annotated "
                "keypoints to compare the answer with"
            )
        annotated = batch["keypoints_2d_gt"] if "keypoints_2d_gt" in batch else batch["keypoints_2d"]
        target, valid = annotated[..., :2], annotated[..., 2]
        self._add("pixels", pixels, target, valid, groups)
        self._add_people(pixels, target, valid, batch)
        if "box" in batch:
            side = batch["box"][:, 2, None, None]
            self._add("box", pixels / side, target / side, valid, groups)
        if "keypoints_2d" in prediction:
            self._update_keypoints(pixels, annotated, batch.get("box"), groups)

    def _pixels_of(self, batch: PoseBatch, prediction: Prediction, body: BodyModel | None) -> Tensor | None:
        """The keypoints of the answer, or the joints of its body, in pixels of the whole image; None without either."""
        if "keypoints_2d" in prediction:
            return prediction["keypoints_2d"][..., :2]
        if body is None or "smpl" not in prediction or "camera_translation" not in prediction:
            return None
        answered: Any = prediction["smpl"]
        joints = body.joints(**answered, translation=prediction["camera_translation"], regressor=self.protocol.skeleton)
        return project_to_image(joints, PinholeCamera(batch["camera"]["focal"], batch["camera"]["principal_point"]))

    def _update_keypoints(
        self, pixels: Tensor, annotated: Tensor, box: Tensor | None, groups: list[str] | None
    ) -> None:
        """What is measured of methods that find keypoints."""
        target, valid = annotated[..., :2], annotated[..., 2]
        area = area_of(bounds_of_keypoints(annotated))
        skeleton = self.protocol.skeleton
        found, true = (in_similarity(points, area, skeleton) for points in (pixels, target))
        self._add("similarity", found, true, valid, groups)
        if box is not None:
            side = box[:, 2, None, None]
            self._add("keypoints", pixels / side, target / side, valid, groups)


def _metric(key: PoseErrorKey, protocol: Protocol) -> PoseMetric:
    joints = {"protocol": protocol.joints, "pck": protocol.pck_joints or protocol.joints}
    if key.over == "limbs":
        joints["limbs"] = limb_joints(protocol.skeleton)
    root = {"joints": protocol.root, "clips": protocol.root, "smpl_joints": 0}  # vertices come centred
    metric: type[PoseMetric] = getattr(pose_errors, key.metric)
    mean_over_groups = protocol.average != "poses"
    return metric(joints=joints.get(key.over), root=root.get(key.compares), by_group=mean_over_groups)


def details_of(evaluations: Sequence[EvaluationSet], needs_ground_truth: bool) -> dict[str, dict[str, Any]]:
    """What a test records beside its metrics, for each data set.

    Args:
        evaluations: of the test.
        needs_ground_truth: whether predictions were chosen with the ground truth; then there are numbers of poses only.

    Returns:
        `poses`, the number of those with ground truth; `per_person` and `per_joint`, the errors of each.
    """
    found: dict[str, dict[str, Any]] = {"poses": {}, "per_person": {}, "per_joint": {}}
    for evaluation in evaluations:
        dataset = evaluation.protocol.dataset
        found["poses"][dataset] = int(evaluation.poses.compute())
        if not needs_ground_truth:
            found["per_person"][dataset] = evaluation.per_person()
            found["per_joint"][dataset] = evaluation.per_joint()
    return found
