import pytest
from PIL import Image

from noise2pose.errors import InputError
from noise2pose.images import webcam
from noise2pose.images.sources import find_sources
from noise2pose.images.video import VideoReader, open_video
from tests.films import RED, picture, write_film

FILM = [picture((RED, 10 * frame)) for frame in range(4)]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    for name in ("one/clip.mp4", "two/clip.mp4", "two/clip_10.mp4"):
        write_film(tmp_path / name, FILM)
    (tmp_path / "photos").mkdir()
    for number in (1, 2, 10):
        Image.new("RGB", (8, 8)).save(tmp_path / "photos" / f"p{number}.png")
    return tmp_path


def named(sources):
    return [video.file_name for video in sources.videos] or [name for name, _ in sources.images]


def test_videos_folders_and_patterns(folder):
    assert named(find_sources([folder / "one" / "clip.mp4"])) == ["clip.mp4"]
    assert named(find_sources([folder / "two"])) == ["clip.mp4", "clip_10.mp4"]
    assert named(find_sources([str(folder / "photos" / "*.png")])) == ["p1.png", "p2.png", "p10.png"]
    assert named(find_sources([folder / "photos"])) == ["p1.png", "p10.png", "p2.png"]


def test_two_videos_of_one_name_are_kept_apart(folder):
    sources = find_sources([folder / "one" / "clip.mp4", folder / "two" / "clip.mp4"])
    assert named(sources) == ["one/clip.mp4", "two/clip.mp4"]
    assert [video.frame_name(3) for video in sources.videos] == ["one/clip.mp4/clip_000003", "two/clip.mp4/clip_000003"]


def test_keypoint_files_are_as_they_were(folder):
    (folder / "keypoints.json").write_text("[]")
    assert find_sources([folder / "keypoints.json"]).keypoints == folder / "keypoints.json"


def test_what_is_left_out_is_told(folder):
    write_film(folder / "photos" / "clip.mp4", FILM)
    sources = find_sources([folder / "photos"])
    assert len(sources.images) == 3 and "1 video in it not read beside images" in sources.notes[0]
    (folder / "two" / "broken.mp4").write_bytes(b"broken")
    sources = find_sources([folder / "two"])
    assert len(sources.videos) == 2 and "broken.mp4: cannot be read as a video" in sources.notes[0]
    with pytest.raises(InputError, match="broken.mp4: cannot be read as a video"):
        find_sources([folder / "two" / "broken.mp4", folder / "one" / "clip.mp4"])


def test_what_cannot_be_read_is_refused(folder):
    (folder / "notes.docx").write_text("")
    for given, message in (
        ([folder / "photos", folder / "one" / "clip.mp4"], "give them in two calls"),
        ([folder / "notes.docx"], "neither keypoints .* nor an image .* nor a video"),
        ([str(folder / "*.mp4")], r"\*.mp4: no file is called like this"),
        ([folder / "none.mp4"], "none.mp4 does not exist"),
        (["webcam"], "say a folder to write to with --output"),
    ):
        with pytest.raises(InputError, match=message):
            find_sources(given)
    with pytest.raises(InputError, match="--seconds is for `webcam`"):
        find_sources([folder / "one"], seconds=3.0)


def test_a_camera_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="there is no camera /dev/video97; found: "):
        find_sources(["webcam:97"], tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_camera_is_recorded_and_then_read(tmp_path, monkeypatch, capsys):
    film = write_film(tmp_path / "camera.mp4", FILM * 3)
    opened = webcam.av.open

    def camera(path, *more, **options):
        return opened(str(film)) if options.get("format") == "v4l2" else opened(path, *more, **options)

    monkeypatch.setattr(webcam.av, "open", camera)
    monkeypatch.setattr(webcam, "_DEVICE", str(film).replace("camera.mp4", "camera{}.mp4"))
    film.rename(tmp_path / "camera1.mp4")
    film = tmp_path / "camera1.mp4"
    sources = find_sources(["webcam:1"], tmp_path / "out")
    assert named(sources) == ["webcam_1.mkv"]
    times = [frame.time for frame in VideoReader(open_video(tmp_path / "out" / "webcam_1.mkv"))]
    assert len(times) == 12 and times == sorted(set(times))
    assert "Ctrl-C ends it" in capsys.readouterr().err
    film.unlink()
    assert named(find_sources(["webcam:1"], tmp_path / "out")) == ["webcam_1.mkv"], "what was recorded is kept"
