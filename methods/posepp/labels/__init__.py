"""Labels made honest: images filtered, keypoints refined, heads turned."""
