"""The recordings of containers that are gone."""

from __future__ import annotations

import pytest

from glassdock.errors import NotFound
from tests.support.daemon import Daemon


@pytest.mark.needs_root
def test_the_recording_of_a_removed_container_can_still_be_looked_at(engine: Daemon) -> None:
    engine.docker("pull", "-q", "busybox")
    for _ in range(2):
        engine.docker("run", "--rm", "--name", "told", "busybox", "true")
    status, answer = engine.get("/glassdock/containers/told/trace")
    assert status == 200
    names = [span["name"] for span in answer["spans"]]
    assert names.count("containers.start") == 1
    assert engine.get(f"/glassdock/containers/{answer['id'][:12]}/trace")[1] == answer
    assert engine.get("/glassdock/containers/never/trace")[0] == 404
    assert engine.get("/containers/told/json")[0] == 404


def test_nothing_is_found_where_nothing_was() -> None:
    from glassdock.containers.told import Told

    with pytest.raises(NotFound):
        Told().find("x")
