"""People before cameras, for tests of the generator."""

from noise2pose.bodies import BodyModel
from tests.tiny import TinyPeople


class TinyScenes(TinyPeople):
    """`TinyPeople` that also say where they stand; their images are brighter where a person is."""

    def load(self, split):
        people = super().load(split)
        body = BodyModel.load("free").joints(**people["smpl"])
        people["camera_translation"] = people["keypoints_3d"][:, 0, :3] - body[:, 0]
        return people
