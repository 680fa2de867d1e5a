"""`%container exec` and `c.exec(...)` in a real Glassdock kernel."""

from __future__ import annotations

import pytest

from tests.kernelext.conftest import Notebook, shown, stream

pytestmark = pytest.mark.needs_root


def test_exec_streams_its_output_and_is_an_object(notebook: Notebook) -> None:
    _, first, second, third, fourth, _ = notebook(
        "c = %container run -d --replace --name host busybox sleep 100",
        "e = %container exec {c} sh -c 'echo out; exit 3'\ne, e.exit_code, e.stdout",
        "%%container exec -i {c} cat\nthe cell",
        "e = c.exec('sh -c \"echo $0 >&2\" word')\ne.exit_code, e.stdout, e.stderr",
        "c.exec(['cat'], stdin='text').stdout",
        "%container rm -f {c}",
    )
    assert stream(first) == "out\n"
    assert shown(first) == "(<Exec sh -c 'echo out; exit 3': exited (3)>, 3, 'out\\n')"
    assert stream(second) == "the cell\n"
    assert shown(third) == "(0, '', 'word\\n')"
    assert shown(fourth) == "'text'"
