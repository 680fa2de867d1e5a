"""Which capabilities a container keeps: Docker's --cap-add and --cap-drop."""

from __future__ import annotations

import pytest

from glassdock.errors import InvalidParameter
from glassdock.runtime import capabilities
from glassdock.runtime.capabilities import ALL, DEFAULT, resolve


@pytest.mark.parametrize(
    ("add", "drop", "wanted"),
    [
        ((), (), set(DEFAULT)),
        (("net_admin",), (), {*DEFAULT, "CAP_NET_ADMIN"}),
        (("CAP_NET_ADMIN",), ("mknod",), {*DEFAULT, "CAP_NET_ADMIN"} - {"CAP_MKNOD"}),
        ((), ("ALL",), set()),
        (("CHOWN",), ("all",), {"CAP_CHOWN"}),
        (("ALL",), (), set(ALL)),
        (("ALL",), ("SYS_ADMIN",), set(ALL) - {"CAP_SYS_ADMIN"}),
    ],
)
def test_adding_and_dropping(add: tuple[str, ...], drop: tuple[str, ...], wanted: set[str]) -> None:
    assert set(resolve(add, drop)) == wanted


def test_privileged_is_everything() -> None:
    assert resolve(privileged=True) == ALL


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="invalid capability: 'flying'"):
        resolve(["flying"])


def test_the_sets_are_dockers() -> None:
    found = capabilities.sets(["CAP_CHOWN"])
    assert found.bounding == found.effective == found.permitted == ("CAP_CHOWN",)
    assert found.inheritable == found.ambient == ()


def test_names_become_bits() -> None:
    assert capabilities.mask(["CAP_CHOWN", "CAP_SETFCAP"]) == 1 | 1 << 31
