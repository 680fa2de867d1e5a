"""Hooks: programs of the specification's that run at six points of a container's life, with its state on their input.

Interface:
- `run(kind, hooks, state)`: one after another; raises StartFailed for the first that fails or takes too long.
- `prepare()`: what a child needs before it is cloned.
- `check(hooks)`: raises InvalidParameter for what no runtime could run.
- `run_all(kind, hooks, state)`: all of them; what failed is returned, a sentence each.

Rules: prestart and createRuntime run outside before the pivot, createContainer in the container's namespaces before the
pivot, startContainer inside after `start`, poststart and poststop outside. The first four stop the container when they
fail; poststart also ends the container; poststop only warns. A hook gets exactly the environment that is written, or,
as with runc, startContainer the program's where none is.

Source: https://github.com/opencontainers/runtime-spec/blob/main/config.md#posix-platform-hooks
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence

from glassdock.errors import InvalidParameter, StartFailed
from glassdock.oci.runtime import Hook, Hooks
from glassdock.runtime.stage import reason

KINDS = ("prestart", "create_runtime", "create_container", "start_container", "poststart", "poststop")
_MOST_OUTPUT = 2000


def check(hooks: Hooks | None) -> None:
    """Raise InvalidParameter for a hook that no runtime could run."""
    for kind in KINDS if hooks else ():
        for hook in getattr(hooks, kind):
            if not hook.path.startswith("/"):
                raise InvalidParameter(f"hook {hook.path!r}: the path must be absolute")
            if hook.timeout is not None and hook.timeout <= 0:
                raise InvalidParameter(f"hook {hook.path!r}: the timeout must be greater than zero")


def prepare() -> None:
    """Import what runs a hook, for a process that may import nothing later: a child in the container (2019-14271)."""
    assert subprocess.PIPE


def run(kind: str, hooks: Sequence[Hook], state: bytes, usual: Mapping[bytes, bytes] | None = None) -> None:
    """Run them in their order; the first failure ends it with StartFailed. `usual` is for hooks without environment."""
    for number, hook in enumerate(hooks):
        _run_one(f"error running {kind} hook #{number}", hook, state, usual or {})


def run_all(kind: str, hooks: Sequence[Hook], state: bytes) -> list[str]:
    """Run them all, whatever happens; returns what failed."""
    failed: list[str] = []
    for number, hook in enumerate(hooks):
        try:
            _run_one(f"error running {kind} hook #{number}", hook, state, {})
        except StartFailed as error:
            failed.append(error.message)
    return failed


def _run_one(doing: str, hook: Hook, state: bytes, usual: Mapping[bytes, bytes]) -> None:
    environment = {os.fsencode(name): os.fsencode(text) for name, _, text in (row.partition("=") for row in hook.env)}
    arguments = list(hook.args) or [hook.path]
    try:
        done = subprocess.run(
            arguments,
            executable=hook.path,
            env=environment or usual,
            input=state,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=hook.timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise StartFailed(f"{doing}: {hook.path} ran past its timeout of {hook.timeout} seconds") from error
    except OSError as error:
        raise StartFailed(f"{doing}: {hook.path}: {reason(error)}", errno=error.errno or 0) from error
    if done.returncode:
        told = done.stdout[-_MOST_OUTPUT:].decode("utf-8", "replace").strip()
        how = f"exit status {done.returncode}" if done.returncode > 0 else f"signal {-done.returncode}"
        raise StartFailed(f"{doing}: {hook.path}: {how}" + (f": {told}" if told else ""))
