"""Human3.6M: the official folder, VideoPose3D's files, and those of 3DCrowdNet."""

from datamodules.sources.human36m.files import DESCRIPTION, add_options, plan

__all__ = ["DESCRIPTION", "add_options", "plan"]
