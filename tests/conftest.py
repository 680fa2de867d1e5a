"""What every test relies on: a folder of the session's own, marks for what a test needs, no leaks, an engine.

Interface:
- marks `needs_root`, `needs_the_machines_root(reason)` and `needs("program", ...)`: skipped with the reason where the
  machine lacks it. Under CI, where everything was installed, a missing program is a failure.
- fixture `engine`: a daemon for the whole session with the course images in its registry (`tests/support/daemon.py`).
- fixture `short_tmp`: an empty folder whose path is short enough for unix sockets.

Rules: a test leaves nothing behind (`tests/support/leaks.py` looks after each one); at the end a table says what could
not run here, and why.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from glassdock.linux import ids
from tests.support.daemon import Daemon
from tests.support.leaks import Session, Snapshot, leaks

_session = pytest.StashKey[Session]()
# Debian puts these where an ordinary user's PATH does not look.
_MORE_PATH = ("/usr/local/sbin", "/usr/sbin", "/sbin")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Give the session its folder, and keep the user's own settings and daemons out of the tests."""
    session = Session(Path(tempfile.mkdtemp(prefix="gdt-", dir="/tmp")))
    session.folder.chmod(0o711)
    session.tmp.mkdir()
    config.stash[_session] = session
    config.option.basetemp = str(session.folder / "p")
    os.environ["TMPDIR"] = tempfile.tempdir = str(session.tmp)
    for name in [name for name in os.environ if name.startswith(("GLASSDOCK_", "DOCKER_", "XDG_"))]:
        del os.environ[name]
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        (folder := session.folder / name.lower()).mkdir()
        os.environ[name] = str(folder)
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", ""), *_MORE_PATH])


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the session's folder."""
    if (session := config.stash.get(_session, None)) is not None:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(session.folder)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this machine cannot run; under CI a missing program is a failure."""
    if item.get_closest_marker("needs_root") and os.geteuid() != 0:
        pytest.skip("needs root")
    for mark in item.iter_markers("needs_the_machines_root"):
        if not ids.initial():
            pytest.skip(f"needs the machine's root: {mark.args[0]}")
    wanted = [program for mark in item.iter_markers("needs") for program in mark.args]
    missing = sorted({program for program in wanted if shutil.which(program) is None})
    if missing:
        reason = f"needs {', '.join(missing)}"
        if os.environ.get("CI") and os.geteuid() == 0:
            pytest.fail(f"{reason}: .ci/run has to install it", pytrace=False)
        pytest.skip(reason)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A table of what could not run here."""
    reasons: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons[reason.removeprefix("Skipped: ")] += 1
    if not reasons:
        return
    terminalreporter.section("what this machine could not run")
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"{count:5} {'test ' if count == 1 else 'tests'}  {reason}")


@pytest.fixture(scope="session")
def session(request: pytest.FixtureRequest) -> Session:
    """The session's folder and engine."""
    return request.config.stash[_session]


@pytest.fixture(autouse=True)
def nothing_left(session: Session, request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a mount, interface, cgroup, process, namespace, temporary file or container."""
    engine: Daemon | None = request.getfixturevalue("engine") if "engine" in request.fixturenames else None
    containers = engine.containers() if engine else {}
    before = Snapshot.take(session)
    yield
    found = leaks(before, session)
    if engine is not None:
        left = {key: name for key, name in engine.containers().items() if key not in containers}
        for key in left:
            engine.request("DELETE", f"/containers/{key}?force=1")
        found += [f"container {name}" for name in left.values()]
    if found:
        pytest.fail("left behind:\n" + "\n".join(found), pytrace=False)


@pytest.fixture(scope="session")
def engine(session: Session) -> Iterator[Daemon]:
    """The session's daemon, course images in its registry; stopped at the end, and nothing may be left of it."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    daemon = Daemon(session.folder / "e")
    session.engine_roots.append(str(daemon.root))
    daemon.start()
    try:
        daemon.course_images()
        yield daemon
    finally:
        left = daemon.stop()
    if left:
        pytest.fail("the engine left behind:\n" + "\n".join(left), pytrace=False)


@pytest.fixture
def short_tmp(session: Session) -> Iterator[Path]:
    """An empty folder with a short path (unix sockets), removed afterwards."""
    with tempfile.TemporaryDirectory(dir=session.folder) as name:
        yield Path(name)
