"""`glassdock-runtime`: bundles become containers, with runc's verbs and flags, so that containerd can drive it.

Interface: `main(arguments=None)`: run a command line; returns the exit code.

Rules: it needs no daemon. An error is one line on standard error and, with `--log`, an entry there; the exit code is 1,
255 of `exec`, 3 for a verb that there is not. A verb's module is imported when it is called: a run is over in 30 ms.

Source: runc(8), https://github.com/opencontainers/runtime-tools/blob/master/docs/command-line-interface.md
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from glassdock.cli.runtime_log import Log
from glassdock.cli.runtime_verbs import ABOUT, GENERAL, VERBS
from glassdock.cli.runtime_words import Call, Usage, help_of, help_of_all, parse
from glassdock.errors import GlassdockError, NotSupported, StartFailed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; the exit code is returned, and no traceback is shown."""
    call = Call()
    try:
        call = parse(VERBS, GENERAL, sys.argv[1:] if arguments is None else arguments)
        return _call(call)
    except Usage as error:
        told = help_of(error.verb, VERBS[error.verb]) if error.verb else help_of_all(VERBS, GENERAL, ABOUT)
        sys.stderr.write(f"Incorrect Usage: {error}\n\n{told}" if error.verb else f"{error}\n")
        return 1 if error.verb else 3
    except (GlassdockError, OSError) as error:
        message = _words(call.verb, error)
    except KeyboardInterrupt:
        message = "interrupted"
    try:
        Log(call).write("error", message)
    except OSError as error:
        message += f"\n{call.settings['log']}: {os.strerror(error.errno or 0).lower()}"
    sys.stderr.write(f"{message}\n")
    return 255 if call.verb == "exec" else 1


def _call(call: Call) -> int:
    if call.settings["version"]:
        sys.stdout.write(_version())
        return 0
    if call.wants_help:
        sys.stdout.write(help_of(call.verb, VERBS[call.verb]) if call.verb else help_of_all(VERBS, GENERAL, ABOUT))
        return 0
    if call.settings["log-format"] not in ("text", "json"):
        raise Usage(f'invalid log-format "{call.settings["log-format"]}": text or json', call.verb)
    if call.settings["systemd-cgroup"]:
        raise NotSupported("--systemd-cgroup is not supported: this runtime makes its cgroups without systemd")
    module, _, function = VERBS[call.verb].place.partition(":")
    name = f"glassdock.cli.{module}"
    __import__(name)
    result: int = getattr(sys.modules[name], function)(call)
    return result


def _words(verb: str, error: GlassdockError | OSError) -> str:
    """What went wrong, as runc says it; who drives a runtime looks for these words."""
    if isinstance(error, OSError) and error.errno:
        text = os.strerror(error.errno)
        message = f"{error.filename}: {text.lower()}" if error.filename else text.lower()
    else:
        message = str(error)
    if verb == "run" and isinstance(error, StartFailed) and error.step == "runtime.exec":
        return message  # all had been made: these are the program's own last words
    if isinstance(error, StartFailed) and verb in ("create", "run", "exec"):
        message = f"unable to start container process: {message}"
    if verb in ("create", "run"):
        return f"glassdock-runtime {verb} failed: {message}"
    return f"exec failed: {message}" if verb == "exec" else message


def _version() -> str:
    from glassdock import __version__

    return f"glassdock-runtime version {__version__}\nspec: 1.2.0\n"


if __name__ == "__main__":
    sys.exit(main())
