"""CMU Panoptic: its sequences, cameras and skeletons."""

from datamodules.sources.panoptic.files import DESCRIPTION, add_options, plan

__all__ = ["DESCRIPTION", "add_options", "plan"]
