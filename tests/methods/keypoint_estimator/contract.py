"""Small methods for the contract that every method keeps, and their losses."""

from methods.keypoint_estimator import KeypointEstimator

# A low learning rate, for the reason that tests/methods/hmr/contract.py gives.
SMALL = {"skeleton": "h36m_17", "channels": 16, "warmup_steps": 2, "learning_rate": 1e-5}
METHODS = {"keypoint_estimator": lambda: KeypointEstimator(**SMALL)}
# Training loss of each step of two epochs: a refactoring must leave them as they are. Reset only with a reason.
GOLDEN = {"keypoint_estimator": [1.80984, 1.83468, 1.82351, 1.81376, 1.82867, 1.84791]}
