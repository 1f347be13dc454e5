import numpy as np

from datamodules.sources.common.joints import bounds_of, extent, seen_joints, with_validity

KEYPOINTS = np.array(
    [
        [[3.0, 8.0, 0.5], [7.0, 2.0, 1.0], [99.0, 99.0, 0.0]],
        [[3.0, 8.0, 0.5], [np.nan, 2.0, 1.0], [0.0, 0.0, 0.0]],
        [[3.0, 8.0, 0.0], [7.0, 2.0, 0.0], [0.0, 0.0, 0.0]],
    ]
)


def test_joints_that_are_not_there_or_not_finite_become_zeros():
    seen = seen_joints(KEYPOINTS)
    assert np.array_equal(seen[0, :2], KEYPOINTS[0, :2]) and not seen[0, 2].any()
    assert seen[1].any(axis=1).tolist() == [True, False, False] and not seen[2].any()
    points = with_validity(KEYPOINTS, scale=0.1)
    assert points.dtype == np.float32 and points[1, :, 3].tolist() == [1.0, 0.0, 1.0] and not points[1, 1].any()
    assert np.allclose(points[0, 0], [0.3, 0.8, 0.05, 1.0])


def test_bounds_hold_the_joints_that_are_seen_and_an_extent_has_an_area():
    seen = seen_joints(KEYPOINTS)
    pixels, confidence = seen[..., :2], seen[..., 2]
    bounds = bounds_of(pixels, confidence > 0)
    assert bounds.dtype == np.float64 and bounds[0].tolist() == [3.0, 2.0, 7.0, 8.0]
    assert bounds[1].tolist() == [3.0, 8.0, 3.0, 8.0] and np.isnan(bounds[2]).all()
    tight = extent(pixels, confidence > 0)
    assert np.array_equal(tight[0], bounds[0]) and np.isnan(tight[1:]).all()
    assert np.array_equal(extent(pixels[None], confidence[None] > 0)[0], tight, equal_nan=True)
