"""A scene in a browser by viser (https://viser.studio), whose server runs until it is stopped.

Shape letters: as in `noise2pose.viewing.scene`.
"""

import errno
import socket
import threading
import time
from typing import Any

import numpy as np

from noise2pose.bodies.legs import PARTS
from noise2pose.errors import InputError
from noise2pose.export import extras
from noise2pose.rendering.skeletons import color_of_joint
from noise2pose.viewing.page import Images, images_of
from noise2pose.viewing.scene import Person, Scene

_BONE, _GHOST = 0.02, 0.006  # metres
_PALE = np.array([200, 203, 208])  # towards which joints are drawn that were not seen
_PLAYED = 30.0  # moments a second at most that are sent to the browser
_LONGEST_SIDE = 640  # pixels of an image


def check_port(host: str, port: int) -> None:
    """Refuses a port that cannot be had; viser would take another one without a word.

    Raises:
        InputError: if it is in use, or not for everybody.
    """
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except (OSError, OverflowError) as error:
        reason = "is in use" if getattr(error, "errno", None) == errno.EADDRINUSE else f"cannot be used ({error})"
        raise InputError(f"--port {port}: {reason} on {host}; take another, or 0 for any that is free") from None


class LiveView:
    """Serves a scene; the arguments of `page.write_page` mean the same here.

    Args:
        scene: what is shown.
        images: of videos and images.
        host: address to listen at; the default is reached from this computer only.
        port: to listen at; 0 for any that is free.

    Raises:
        InputError: if viser is missing, or the port is in use.
    """

    def __init__(self, scene: Scene, images: Images | None = None, host: str = "127.0.0.1", port: int = 8080) -> None:
        viser = extras.load("viser", "view", "viewing in the browser")
        check_port(host, port)
        self.scene, self.images = scene, images
        self.edges = np.array(scene.skeleton.edges)
        self.server: Any = viser.ViserServer(host=host, port=port, label="noise2pose", verbose=False)
        self.address = f"http://{host}:{self.server.get_port()}"
        ball = extras.load("trimesh", "view", "viewing in the browser").creation.icosphere(subdivisions=1)
        self._ball, self._ball_faces = np.asarray(ball.vertices), np.asarray(ball.faces)
        self._drawing = threading.RLock()
        self._nodes: list[Any] = []
        self.timeline = scene.timelines[0]
        self._pictures: dict[int, np.ndarray] = {}
        self._controls()
        self._choose()

    def play_until_stopped(self) -> None:
        """Moves the timeline while it is playing; ends with Ctrl-C."""
        while True:
            started = time.monotonic()
            if self._play.value and len(self.timeline) > 1:
                moment = (self._slider.value + 1) % len(self.timeline)
                ahead = float(self.timeline.times[moment] - self.timeline.times[moment - 1]) if moment else 0.5
                self._slider.value = moment  # which draws it
                time.sleep(
                    max(ahead / self._speed.value, 1.0 / _PLAYED) - min(time.monotonic() - started, 1.0 / _PLAYED)
                )
            else:
                time.sleep(0.05)

    def stop(self) -> None:
        """Closes the server."""
        self.server.stop()

    def _controls(self) -> None:
        gui, names = self.server.gui, [timeline.name for timeline in self.scene.timelines]
        self.server.scene.set_up_direction("+y")
        labels = [f"{number}: {name}" for number, name in enumerate(names, start=1)]
        self._which = gui.add_dropdown("video", labels, visible=len(labels) > 1)
        self._slider = gui.add_slider("moment", 0, 1, 1, 0)
        self._play = gui.add_checkbox("play", False)
        self._speed = gui.add_slider("speed", 0.25, 2.0, 0.25, 1.0)
        self._threshold = gui.add_slider("confidence from", 0.0, 1.0, 0.01, 0.0)
        self._shown = {name: gui.add_checkbox(name, True) for name in ("bodies", "joints", "hypotheses", "uncertainty")}
        self._sides = gui.add_checkbox("left blue, right red", False)
        self._people = gui.add_dropdown("person", ["everybody"])
        self._about = gui.add_text("shown", "", disabled=True)
        self._image = gui.add_image(np.full((2, 2, 3), 255, dtype=np.uint8), label="image", visible=False)
        self._which.on_update(lambda _: self._choose())
        for control in (self._slider, self._threshold, self._sides, self._people, *self._shown.values()):
            control.on_update(lambda _: self._draw())

    def _choose(self) -> None:
        """Shows the chosen timeline from its first moment."""
        with self._drawing:
            self.timeline = self.scene.timelines[self._which.options.index(self._which.value)]
            timeline = self.timeline
            self._pictures = {} if self.images is None else images_of(timeline, self.images, _LONGEST_SIDE)
            self._people.options = ["everybody", *dict.fromkeys(person.name for person in timeline.people)]
            self._sides.value = len(timeline.people) == 1 and timeline.people[0].faces is None
            self._slider.max = max(len(timeline) - 1, 1)
            self._slider.visible = self._play.visible = self._speed.visible = len(timeline) > 1
            self._slider.value = 0
            points = np.concatenate([person.joints.reshape(-1, 3) for person in timeline.people])
            low, high = np.nanmin(points, axis=0), np.nanmax(points, axis=0)
            middle, size = (low + high) / 2.0, max(float(np.linalg.norm(high - low)), 1.5)
            sole = 0.12 if any(person.faces is not None for person in timeline.people) else 0.05  # below the ankles
            floor = (middle[0], low[1] - sole, middle[2])
            self.server.scene.add_grid("/floor", 2 * size, 2 * size, plane="xz", position=floor, cell_size=0.5)
            camera = self.server.initial_camera
            camera.position, camera.look_at = tuple(middle + size * np.array([0.5, 0.25, 1.1])), tuple(middle)
            self._draw()

    def _draw(self) -> None:
        """Replaces what is shown by the chosen moment."""
        with self._drawing, self.server.atomic():
            moment, old = min(int(self._slider.value), len(self.timeline) - 1), self._nodes
            self._nodes = []
            shown = [p for p in self.timeline.people if self._people.value in ("everybody", p.name)]
            present = [p for p in shown if np.isfinite(p.joints[moment]).all()]
            for person in present:
                self._draw_person(f"/people/{self.timeline.people.index(person)}", person, moment)
            kept = {node.name for node in self._nodes}
            for node in old:
                if node.name not in kept:
                    node.remove()
            self._about.value = f"{self.timeline.label(moment)}, people: {len(present)}"
            before = [key for key in self._pictures if key == moment or (self.timeline.moving and key < moment)]
            self._image.visible = bool(before)
            if before:
                self._image.image = self._pictures[max(before)]

    def _draw_person(self, at: str, person: Person, moment: int) -> None:
        scene, on = self.server.scene, {name: box.value for name, box in self._shown.items()}
        sure, places = person.confidence[moment] >= self._threshold.value, person.joints[moment]
        names = self.scene.skeleton.joints
        colors = np.array([_rgb(color_of_joint(name) if self._sides.value else person.color) for name in names])
        colors = np.where(person.confidence[moment][:, None] > 0, colors, (0.4 * colors + 0.6 * _PALE)).astype(np.uint8)
        edges = self.edges[sure[self.edges].all(axis=1)]
        of_bones = np.repeat(colors[edges[:, 1], None], 2, axis=1)
        if on["joints"] and len(edges):
            lines = scene.add_line_segments(f"{at}/bones", places[edges], of_bones, thickness=_BONE)
            self._nodes.append(lines)
        ghosts = person.hypotheses
        if on["hypotheses"] and ghosts is not None and len(edges):
            count = ghosts.shape[1]
            points, faint = ghosts[moment][:, edges].reshape(-1, 2, 3), (0.5 * of_bones + 0.5 * _PALE).astype(np.uint8)
            tiled = np.tile(faint, (count, 1, 1))
            self._nodes.append(scene.add_line_segments(f"{at}/hypotheses", points, tiled, thickness=_GHOST))
        if on["uncertainty"] and person.ellipsoids is not None and sure.any():
            matrices, centres = person.ellipsoids[moment][sure], places[sure]
            vertices = (self._ball @ matrices + centres[:, None]).reshape(-1, 3).astype(np.float32)
            starts = len(self._ball) * np.arange(len(centres))
            triangles = (starts[:, None, None] + self._ball_faces).reshape(-1, 3)
            color = _rgb(person.color)
            self._nodes.append(
                scene.add_mesh_simple(f"{at}/uncertainty", vertices, triangles, color=color, opacity=0.25)
            )
        vertices, faces = person.vertices(moment) if on["bodies"] else None, person.faces
        if vertices is not None and faces is not None:
            color = np.array(_rgb(person.color))
            pale = self._unseen(person, moment)[faces].any(axis=1)
            for name, shown, shade in (("body", ~pale, color), ("unseen", pale, (0.4 * color + 0.6 * _PALE).round())):
                if shown.any():
                    tint = tuple(int(value) for value in shade)
                    mesh = scene.add_mesh_simple(f"{at}/{name}", vertices, faces[shown], color=tint, opacity=0.85)
                    self._nodes.append(mesh)
        if len(self.timeline.people) > 1:
            top = places[places[:, 1].argmax()] + [0.0, 0.15, 0.0]
            self._nodes.append(scene.add_label(f"{at}/name", person.name, position=tuple(top)))

    def _unseen(self, person: Person, moment: int) -> np.ndarray:
        """(V,) bool: vertices of the legs that nobody saw."""
        parts, joints = person.parts, self.scene.skeleton.joints
        assert parts is not None, "somebody with a mesh"
        seen = person.confidence[moment] > 0
        return np.array([not seen[joints.index(joint)] for _, joint in PARTS] + [False])[parts]


def _rgb(color: str) -> tuple[int, int, int]:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return red, green, blue
