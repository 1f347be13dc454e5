"""Motion over time: outliers, low-pass filters in hertz, rotations on SO(3), how smooth and how late the result is."""
