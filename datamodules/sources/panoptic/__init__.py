"""CMU Panoptic: its sequences, cameras and skeletons."""

SUMMARY = "CMU Panoptic"
PAGE = "http://domedb.perception.cs.cmu.edu"
