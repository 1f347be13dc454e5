"""Human3.6M: the official folder, VideoPose3D's files, and those of 3DCrowdNet."""

SUMMARY = "Human3.6M: official folder, VideoPose3D's files, or 3DCrowdNet's"
PAGE = "http://vision.imar.ro/human3.6m"
