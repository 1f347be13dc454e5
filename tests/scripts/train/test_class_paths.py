"""A configuration names classes; what is not of the expected kind is refused and never called."""

import pytest

CALL = "class_path: subprocess.Popen, init_args: {args: [touch, called]}"
PLACES = {
    "data": f"data: {{{CALL}}}",
    "model": f"model: {{{CALL}}}",
    "part of data": f"data: {{class_path: datamodules.mixture.Mixture, init_args: {{datasets: [{{{CALL}}}]}}}}",
    "logger": f"trainer: {{logger: {{{CALL}}}}}",
    "callback": f"trainer: {{callbacks: [{{{CALL}}}]}}",
    "plugin": f"trainer: {{plugins: [{{{CALL}}}]}}",
    "strategy": f"trainer: {{strategy: {{{CALL}}}}}",
    "profiler": f"trainer: {{profiler: {{{CALL}}}}}",
    "another kind": "trainer: {callbacks: [{class_path: torch.nn.Flatten}]}",
    "data for a model": "model: {class_path: tests.tiny.TinyPoses}",
    "tag": "name: !!python/object/apply:subprocess.Popen [[touch, called]]",
    "command": f"model: {{class_path: methods.diffpose.DiffPose, init_args: {{width: {{{CALL}}}}}}}",
}


@pytest.mark.parametrize("place", PLACES)
def test_what_is_not_of_the_expected_kind_is_refused(place, folder, train):
    (folder / "hostile.yaml").write_text(f"{PLACES[place]}\n")
    assert "error: " in train("fit", "-c", "tiny.yaml", "-c", "hostile.yaml", status=2)
    assert not (folder / "called").exists() and not (folder / "runs").exists()


def test_a_credential_in_a_configuration_is_refused_before_anything_is_written(folder, train):
    logger = "{class_path: methods.callbacks.RunWandbLogger, init_args: {settings: {api_key: abcdef}}}"
    (folder / "key.yaml").write_text(f"trainer: {{logger: {logger}}}\n")
    said = train("fit", "-c", "tiny.yaml", "-c", "key.yaml", status=2)
    assert "holds a credential" in said and "abcdef" not in said
    assert not [
        path for path in folder.rglob("*") if path.is_file() and path.suffix != ".yaml" and path.name != ".lock"
    ]
