import unicodedata

from noise2pose.keypoints.images import frame_number, image_path, person_names


def test_paths_are_written_in_one_way():
    assert image_path("cam1\\0001.jpg") == "cam1/0001.jpg" == image_path("cam1//0001.jpg")
    assert image_path(unicodedata.normalize("NFD", "é.jpg")) == "é.jpg" and image_path("..") == "image"


def test_names_keep_what_tells_images_apart():
    assert person_names(["a/1.jpg", "a/2.jpg", "a/1.jpg"]) == ["1", "2", "1#2"]
    assert person_names(["cam1/1.jpg", "cam2/1.jpg"]) == ["cam1/1", "cam2/1"]
    assert person_names(["1.jpg", "1.png", "1.png"]) == ["1.jpg", "1.png", "1.png#2"]
    assert person_names(["walk.jpg", "walk.jpg", "walk#2.jpg"]) == ["walk", "walk#3", "walk#2"]
    assert person_names(["v1.2", "v1.3"]) == ["v1.2", "v1.3"], "only the endings of images are none of the name"


def test_the_last_number_counts_frames():
    assert frame_number("v1/take2_0031.jpg")[1] == 31 and frame_number("v1/walk.jpg") == ("v1/walk.jpg", None)
    assert frame_number("v1/a_1.jpg")[0] == frame_number("v1/a_2.png")[0] != frame_number("v2/a_1.jpg")[0]
