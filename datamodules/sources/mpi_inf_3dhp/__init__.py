"""MPI-INF-3DHP: the official folder, and P-STMO's files."""

from datamodules.sources.mpi_inf_3dhp.files import DESCRIPTION, add_options, plan

__all__ = ["DESCRIPTION", "add_options", "plan"]
