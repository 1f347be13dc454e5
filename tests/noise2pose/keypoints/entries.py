"""Entries of keypoint files as tests write them."""

import json


def person(joints=17, third=0.9, shift=0.0):
    """Numbers of one pose as files have them."""
    return [number for joint in range(joints) for number in (10.0 * joint + 5.0 + shift, 7.0 * joint % 40 + 3.0, third)]


def save(path, content):
    path.write_text(json.dumps(content))
    return path


def result(image, **more):
    return {"image_id": image, "category_id": 1, "keypoints": person(), "score": 2.5, **more}
