"""3DPW: the official folder, 3DCrowdNet's files, and the subsets OC, PC and Crowd."""

SUMMARY = "3DPW: official folder, or 3DCrowdNet's files; with OC, PC and Crowd"
PAGE = "https://virtualhumans.mpi-inf.mpg.de/3DPW"
