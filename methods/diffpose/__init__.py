"""DiffPose: Toward More Reliable 3D Pose Estimation (Gong et al., CVPR 2023). See README.md in this folder."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from methods.diffpose.context import ContextEncoder
    from methods.diffpose.module import DiffPose

__all__ = ["ContextEncoder", "DiffPose"]


def __getattr__(name: str) -> Any:
    """Imports the methods, and Lightning with them, on first use: fitting mixtures needs neither."""
    if name == "ContextEncoder":
        from methods.diffpose.context import ContextEncoder

        return ContextEncoder
    if name == "DiffPose":
        from methods.diffpose.module import DiffPose

        return DiffPose
    raise AttributeError(f"module {__name__} has no attribute {name}")
