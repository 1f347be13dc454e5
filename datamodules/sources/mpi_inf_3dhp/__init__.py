"""MPI-INF-3DHP: the official folder, and P-STMO's files."""

SUMMARY = "MPI-INF-3DHP: official folder, or P-STMO's files"
PAGE = "https://vcai.mpi-inf.mpg.de/3dhp-dataset/"
