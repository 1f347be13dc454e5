"""A trained method used on files and arrays from Python: keypoints lifted, people in images annotated.

```python
from methods.inference import Lifter
poses = Lifter("diffpose-people").predict("keypoints.json")
print(poses.joints_3d.shape, poses.joint_names, poses.unit, poses.frame)
print(poses.uncertainty.mean())
poses.save("lifted")
```

`Annotator("diffannot-people").predict("photos", keypoints="photos.json")` answers with bodies. `scripts/predict.py`
does the same on the command line. No Trainer is needed.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from methods.inference.annotation import Annotator
    from methods.inference.lifting import Lifter
    from methods.inference.model import TrainedModel
    from methods.inference.results import Annotations, LiftedPoses

__all__ = ["Annotations", "Annotator", "LiftedPoses", "Lifter", "TrainedModel"]
_ROOMS = {"Annotator": "annotation", "Lifter": "lifting", "TrainedModel": "model"}


def __getattr__(name: str) -> Any:
    """Imports a class when it is asked for: they load PyTorch and Lightning."""
    if name not in __all__:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_ROOMS.get(name, 'results')}"), name)
