"""Finds the 2-D keypoints of a person in an image; see README.md."""

from methods.keypoint_estimator.module import KeypointEstimator

__all__ = ["KeypointEstimator"]
