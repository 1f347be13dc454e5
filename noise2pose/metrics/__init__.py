"""Metrics of poses: pure functions in `functional`, a `torchmetrics.Metric` of each in `pose_errors`, names in `keys`.

Nothing is imported here, so that `keys` and `protocols` can be read without loading PyTorch.
"""
