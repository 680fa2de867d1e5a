"""`docker rmi`: which names go, whether the image goes with them, and who may forbid it.

Interface:
- `remove(store, name, force, in_use, running)`: Docker's rows of `Untagged` and `Deleted`.

Rules, in Docker's order:
1. A name takes only itself away, while others are left. The last name of an image that a container was made from goes
   only by force. With its last tag, a repository's digests go too.
2. An id takes all names away if they are at most one tag in one repository; with more it goes only by force.
3. The image goes when it has no name; never while a container runs from it, and only by force while one exists.

Source: moby, `daemon/images/image_delete.go`
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from glassdock.errors import Conflict
from glassdock.images.progress import short
from glassdock.oci.reference import Reference

if TYPE_CHECKING:
    from glassdock.images.store import Store

Users = Callable[[str], Sequence[str]]


def remove(store: Store, name: str, *, force: bool, in_use: Users, running: Users) -> list[dict[str, str]]:
    """Untag, and delete what has no name then; raises NotFound, Conflict."""
    image_id = store.get(name).id
    references = store.references(image_id)
    rows: list[dict[str, str]] = []
    by_name = not image_id.removeprefix("sha256:").startswith(name.removeprefix("sha256:"))
    if by_name:
        users = in_use(image_id)
        if not force and users and _single(references):
            raise Conflict(
                f'conflict: unable to remove repository reference "{name}" (must force) - container {users[0][:12]} '
                f"is using its referenced image {short(image_id)}",
                "Remove the container first, or use --force.",
            )
        gone = _with_digests(Reference.parse(name), references)
        _untag(store, gone, rows)
        if set(references) - set(gone):
            return rows
    elif _single(references):
        _check(image_id, [], force, in_use, running)
        _untag(store, references, rows)
    left = store.references(image_id)
    try:
        _check(image_id, left, force, in_use, running)
    except Conflict:
        if by_name:  # the name is gone, as was asked; whoever uses the image keeps it
            return rows
        raise
    _untag(store, left, rows)
    chains = store.delete(image_id)
    return [*rows, {"Deleted": image_id}, *({"Deleted": chain} for chain in chains)]


def _single(references: Sequence[Reference]) -> bool:
    """At most one tag, and all in one repository."""
    tags = [reference for reference in references if not reference.digest]
    return len(tags) <= 1 and len({reference.name for reference in references}) <= 1


def _with_digests(named: Reference, references: Sequence[Reference]) -> list[Reference]:
    """The reference, and the digests of its repository if it was the last tag there."""
    gone = [reference for reference in references if _same(reference, named)]
    same = [reference for reference in references if reference.name == named.name and reference not in gone]
    if not named.digest and not any(not reference.digest for reference in same):
        gone += same
    return gone


def _same(reference: Reference, named: Reference) -> bool:
    if named.digest:
        return (reference.name, reference.digest) == (named.name, named.digest)
    return reference == named


def _untag(store: Store, references: Sequence[Reference], rows: list[dict[str, str]]) -> None:
    store.untag(references)
    rows += [{"Untagged": reference.familiar()} for reference in references]


def _check(image_id: str, names: Sequence[Reference], force: bool, in_use: Users, running: Users) -> None:
    """Raise Conflict where the image has to stay; by force only a running container holds it."""
    text = f"conflict: unable to delete {short(image_id)}"
    if users := running(image_id):
        raise Conflict(
            f"{text} (cannot be forced) - image is being used by running container {users[0][:12]}",
            "Stop the container first.",
        )
    if force:
        return
    if names:
        raise Conflict(
            f"{text} (must be forced) - image is referenced in multiple repositories",
            "Remove it by its names, or use --force.",
        )
    if users := in_use(image_id):
        raise Conflict(
            f"{text} (must be forced) - image is being used by stopped container {users[0][:12]}",
            "Remove the container first, or use --force.",
        )
