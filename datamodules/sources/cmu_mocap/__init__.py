"""The CMU motion capture database as published: ASF/AMC files, their kinematics, and poses of SMPL-24 from them."""
