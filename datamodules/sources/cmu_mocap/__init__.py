"""The CMU motion capture database: its ASF/AMC files, their kinematics, and poses of SMPL-24 from them."""

SUMMARY = "CMU motion capture (ASF/AMC), free"
PAGE = "http://mocap.cs.cmu.edu"
DOWNLOAD = "http://mocap.cs.cmu.edu/allasfamc.zip"
SOURCE = "ZIP_OR_FOLDER..."
