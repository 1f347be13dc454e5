"""3DPW: the official folder, 3DCrowdNet's files, and the subsets OC, PC and Crowd."""

from datamodules.sources.threedpw.files import DESCRIPTION, add_options, plan

__all__ = ["DESCRIPTION", "add_options", "plan"]
