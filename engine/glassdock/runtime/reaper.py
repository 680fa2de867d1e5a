"""The init of a container (`--init`): process 1 that starts the program, passes signals on and reaps what it is left.

Interface:
- `stay_behind(terminal)`: forks; returns in the process that becomes the program. The other one never returns.
- `retitle(words)`: what `ps` shows of it; while the machine's /proc is there.

Rules: nothing is executed, so nothing has to be in the image: what stays is the child that made the container, with the
interpreter that it shares with all others. It is not dumpable, so /proc/1/exe, /proc/1/mem and /proc/1/fd are closed to
the container (2019-5736, 2016-9962), it holds no descriptor and has the program's user, capabilities and filter. It
ends with the program's exit code, and the kernel ends the rest.

Sources: pid_namespaces(7), sigwaitinfo(2), prctl(2); https://github.com/krallin/tini for the behaviour.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
from collections.abc import Iterable
from typing import NoReturn

from glassdock.linux import prctl
from glassdock.linux.process import close_range

_ARGUMENTS = 45  # the place of arg_start in /proc/self/stat after the name: proc_pid_stat(5), field 48


def stay_behind(*, terminal: bool) -> None:
    """Become two: the caller goes on as the program in a process group of its own, in the foreground."""
    prctl.set_parent_death_signal(signal.SIGKILL)  # changing the user took this back
    prctl.set_child_subreaper(True)  # where the PID namespace is not the container's own
    everything = signal.valid_signals()
    signal.pthread_sigmask(signal.SIG_BLOCK, everything)
    gc.disable()
    program = os.fork()
    if program:
        _keep(program, everything)
    os.setpgid(0, 0)
    if terminal:
        os.tcsetpgrp(0, os.getpid())


def retitle(words: Iterable[str]) -> None:
    """Write over the arguments that this process was started with, which are the launcher's."""
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    first, last = int(fields[_ARGUMENTS]), int(fields[_ARGUMENTS + 1])
    text = b"\0".join(os.fsencode(word) for word in ("glassdock-init", "--", *words))
    memory = os.open("/proc/self/mem", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(memory, text[: last - first - 1].ljust(last - first, b"\0"), first)
    finally:
        os.close(memory)


def _keep(program: int, signals: set[signal.Signals]) -> NoReturn:
    close_range(0)
    while True:
        heard = signal.sigwaitinfo(signals).si_signo
        if heard == signal.SIGCHLD:
            _reap(program)
        elif heard not in (signal.SIGTTIN, signal.SIGTTOU):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(program, heard)


def _reap(program: int) -> None:
    """Collect all that have ended; the program's end is ours."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        if pid == program and not os.WIFSTOPPED(status):
            os._exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))
