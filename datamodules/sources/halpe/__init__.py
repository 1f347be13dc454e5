"""Halpe-FullBody: its annotation files, and the cleansing of people whose bodies do not fit their keypoints."""

SUMMARY = "Halpe-FullBody"
PAGE = "https://github.com/Fang-Haoshu/Halpe-FullBody"
