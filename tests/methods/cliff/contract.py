"""A small method for the contract that every method keeps, and its losses."""

from methods.cliff import CLIFF

SMALL_CLIFF = {"backbone": "efficientnet_lite0", "hidden": 32, "warmup_steps": 2, "vertex_weight": 0.0}
# At the usual learning rate a rounding grows to another loss in six steps, as of HMR from images.
METHODS = {"cliff": lambda: CLIFF(learning_rate=1e-5, **SMALL_CLIFF)}
# Training loss of each step of two epochs: a refactoring must leave them as they are. Reset only with a reason.
GOLDEN = {"cliff": [55.6518, 47.1559, 45.7281, 55.8962, 43.7185, 48.666]}
