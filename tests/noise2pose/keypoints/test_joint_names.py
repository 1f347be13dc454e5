import pytest

from noise2pose import skeletons
from noise2pose.errors import InputError
from noise2pose.keypoints.joint_names import skeleton_of_names

VIDEOPOSE3D = (
    "Hip RHip RKnee RFoot LHip LKnee LFoot Spine Thorax Neck/Nose Head LShoulder LElbow LWrist RShoulder RElbow RWrist"
)
MMPOSE = (
    "root right_hip right_knee right_foot left_hip left_knee left_foot spine thorax neck_base head left_shoulder "
    "left_elbow left_wrist right_shoulder right_elbow right_wrist"
)


@pytest.mark.parametrize("names", [VIDEOPOSE3D, MMPOSE])
def test_names_of_human36m(names):
    assert skeleton_of_names(names.split()) == ("h36m_17", list(range(17)))


@pytest.mark.parametrize("name", [name for name in skeletons.SKELETONS if name not in ("aic_14", "lsp_14")])
@pytest.mark.parametrize(
    "spelling",
    [
        str,
        str.upper,
        lambda joint: joint.replace("_", " ").title(),
        lambda joint: joint.replace("left_", "L-").replace("right_", "R-"),
        lambda joint: "".join(word.title() for word in joint.replace("left", "L").replace("right", "R").split("_")),
    ],
)
def test_every_skeleton_in_every_spelling(name, spelling):
    joints = [
        joint for joint in skeletons.get(name).joints if not joint.startswith(("face_", "left_hand_", "right_hand_"))
    ]
    found, order = skeleton_of_names([spelling(joint) for joint in joints])
    named = [joints[position] for position in order if position >= 0]
    assert named == [joint for joint in skeletons.get(found).joints if joint in joints]
    assert {joint for joint in joints if joint.endswith(("hip", "knee", "ankle", "shoulder", "elbow", "wrist"))} <= set(
        named
    )


def test_an_animal_is_no_person():
    ap10k = (
        "left_eye right_eye nose neck root_of_tail left_shoulder left_elbow left_front_paw right_shoulder right_elbow"
    )
    ap10k += " right_front_paw left_hip left_knee left_back_paw right_hip right_knee right_back_paw"
    with pytest.raises(InputError, match="not those of a person: left_wrist, left_ankle, right_wrist, right_ankle"):
        skeleton_of_names(ap10k.split())
