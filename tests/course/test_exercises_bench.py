"""What an exercise sees of the engine: containers, images, layers, as values."""

from __future__ import annotations

import os
from pathlib import Path

import docker
import pytest

from glassdock_jupyter.exercises_bench import Bench, SeenContainer, SeenImage, SeenLayer
from tests.support.daemon import Daemon


def layer(folder: Path, files: dict[str, bytes]) -> SeenLayer:
    for path, data in files.items():
        place = folder / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    folder.mkdir(exist_ok=True)
    return SeenLayer(f"sha256:{folder.name}", 0, "", folder)


def image(*layers: SeenLayer) -> SeenImage:
    return SeenImage({"Id": "sha256:0"}, layers)


def test_the_upper_layer_wins(tmp_path: Path) -> None:
    seen = image(layer(tmp_path / "a", {"/x": b"old"}), layer(tmp_path / "b", {"/x": b"new"}))
    assert seen.read("/x") == b"new"
    assert [one.folder.name for one in seen.holds("/x")] == ["a", "b"]


@pytest.mark.needs_root
def test_a_whiteout_hides_a_file_whose_bytes_stay(tmp_path: Path) -> None:
    below, above = layer(tmp_path / "a", {"/x": b"old"}), layer(tmp_path / "b", {})
    os.mknod(above.folder / "x", 0o020000, os.makedev(0, 0))
    seen = image(below, above)
    assert seen.read("/x") is None
    assert seen.holds("/x") == [below]


@pytest.mark.needs_root
def test_a_whiteout_hides_the_folder_and_everything_in_it(tmp_path: Path) -> None:
    below, above = layer(tmp_path / "a", {"/d/e/x": b"old"}), layer(tmp_path / "b", {})
    os.mknod(above.folder / "d", 0o020000, os.makedev(0, 0))
    assert image(below, above).read("/d/e/x") is None


@pytest.mark.needs_root
def test_an_opaque_folder_hides_what_is_below_and_not_what_is_in_it(tmp_path: Path) -> None:
    below, above = layer(tmp_path / "a", {"/d/x": b"old"}), layer(tmp_path / "b", {"/d/y": b"new"})
    os.setxattr(above.folder / "d", "trusted.overlay.opaque", b"y")
    seen = image(below, above)
    assert seen.read("/d/x") is None
    assert seen.read("/d/y") == b"new"


def test_whiteouts_of_an_archive_are_understood_too(tmp_path: Path) -> None:
    seen = image(layer(tmp_path / "a", {"/d/x": b"old"}), layer(tmp_path / "b", {"/d/.wh.x": b""}))
    assert seen.read("/d/x") is None


def test_a_link_in_a_layer_does_not_lead_out_of_it(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"host")
    one = layer(tmp_path / "a", {})
    (one.folder / "up").symlink_to(tmp_path)
    (one.folder / "file").symlink_to(tmp_path / "secret")
    assert one.bytes_at("/up/secret") is None
    assert one.bytes_at("/file") is None


def test_the_mode_is_that_of_the_layer_that_is_seen(tmp_path: Path) -> None:
    below, above = layer(tmp_path / "a", {"/x": b"same"}), layer(tmp_path / "b", {"/x": b"same"})
    (below.folder / "x").chmod(0o644)
    (above.folder / "x").chmod(0o755)
    assert image(below, above).mode("/x") == 0o755
    assert image(below).mode("/x") == 0o644
    assert image(below).mode("/y") is None


def test_standing_on_an_image_means_having_its_layers_at_the_bottom(tmp_path: Path) -> None:
    a, b, c = (layer(tmp_path / name, {}) for name in "abc")
    assert image(a, b, c).built_on(image(a, b))
    assert not image(b, a).built_on(image(a))
    assert not image(a).built_on(image(a, b))


def test_a_container_is_alive_only_if_the_kernel_knows_its_process() -> None:
    state = {"Status": "running", "Pid": os.getpid(), "StartedAt": "2026-01-01T00:00:00Z", "ExitCode": 0}
    alive = SeenContainer({"Id": "1", "State": state})
    assert alive.running
    assert "PATH" in alive.environment
    assert any("pytest" in word for word in alive.arguments)
    assert not SeenContainer({"Id": "1", "State": {**state, "Pid": 2**22 + 1}}).running


def test_a_container_that_was_only_created_has_never_started() -> None:
    state = {"Status": "created", "Pid": 0, "StartedAt": "0001-01-01T00:00:00Z", "ExitCode": 0}
    seen = SeenContainer({"Id": "1", "State": state, "Config": {"Env": ["TOWN=Nara"]}})
    assert not seen.ever_started
    assert not seen.running
    assert seen.environment == {"TOWN": "Nara"}


@pytest.mark.needs_root
@pytest.mark.needs("docker")
def test_what_a_container_has_written_is_told_from_what_the_image_has(engine: Daemon) -> None:
    engine.docker("run", "--name", "wrote", "busybox", "sh", "-c", "echo mine > /root/letter; rm /bin/vi")
    client = docker.DockerClient(base_url=f"unix://{engine.socket}")
    try:
        bench = Bench(client, {}, "an-exercise")
        seen = bench.container("wrote")
        assert seen is not None
        assert bench.written(seen, "/root/letter") == b"mine\n"
        assert bench.written(seen, "/bin/busybox") is None
        assert bench.written(seen, "/bin/vi") is None
    finally:
        client.close()
        engine.docker("rm", "wrote")
