"""Files that the engine mounts over an image are no changes of the container."""

from __future__ import annotations

from glassdock.containers.files import without_places
from glassdock.images.changes import Changes

PLACES = (("/etc/hostname", 0), ("/etc/hosts", 0), ("/etc/resolv.conf", 0))


def test_places_that_were_only_mounted_on_are_no_changes() -> None:
    assert without_places(Changes(PLACES, (("/etc", 0),), ())) == Changes()


def test_what_the_program_did_in_the_same_folder_stays() -> None:
    found = Changes((*PLACES, ("/etc/motd", 3)), (("/etc", 0),), (("/tmp/x", 1),))
    assert without_places(found) == Changes((("/etc/motd", 3),), (("/etc", 0),), (("/tmp/x", 1),))


def test_a_file_with_bytes_at_such_a_place_is_a_change() -> None:
    found = Changes((("/etc/hosts", 12),), (("/etc", 0),), ())
    assert without_places(found) == found
