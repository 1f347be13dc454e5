"""Small methods for the contract that every method keeps, and their losses."""

from methods.posepp import Refiner

# A low learning rate, for the reason that tests/methods/hmr/contract.py gives.
SMALL_REFINER = {"skeleton": "h36m_17", "channels": 16, "num_layers": 2, "warmup_steps": 2, "learning_rate": 1e-5}
METHODS = {"posepp_refiner": lambda: Refiner(**SMALL_REFINER)}
# Training loss of each step of two epochs: a refactoring must leave them as they are. Reset only with a reason.
GOLDEN = {"posepp_refiner": [4.31537, 3.91732, 4.26533, 4.28991, 4.25827, 4.30815]}
