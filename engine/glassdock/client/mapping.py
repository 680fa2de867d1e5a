"""From the SDK's errors to ours: the only place.

Interface:
- `with mapped(host): ...`: whatever the SDK raises inside comes out as an error of `glassdock.errors`.
- `from_event(event)`: the error in a JSON line of pull, push or build, or None.

Rules: an engine's own body (`errors.to_body`) wins; where it is another engine's, Docker's status decides, and for
a program that cannot be run its words, as Docker's own client does.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from glassdock import errors

_MISSING = re.compile(r"executable file not found|no such file or directory", re.IGNORECASE)
_NOT_EXECUTABLE = re.compile(r"permission denied|exec format error|is a directory", re.IGNORECASE)
_RUN_IT = "Look what the image has, or name another program."


@contextlib.contextmanager
def mapped(host: str) -> Iterator[None]:
    """Turn what the SDK raises inside into our tree; `host` is named where nobody answers."""
    import docker.errors
    import requests

    try:
        yield
    except docker.errors.APIError as error:
        raise _from_response(error) from error
    except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
        raise _unreachable(error, host) from error


def from_event(event: Mapping[str, Any]) -> errors.GlassdockError | None:
    """The error that a JSON line tells, or None if it tells none."""
    if "error" not in event and "errorDetail" not in event:
        return None
    detail = dict(event.get("errorDetail") or {})
    detail.setdefault("message", event.get("error", "the engine reports an error without a text"))
    code = int(detail.get("code") or 0)
    return errors.from_body(code if code >= 400 else 500, detail)  # a build's code is that of the RUN that failed


def _from_response(error: Any) -> errors.GlassdockError:
    response = error.response
    status = int(response.status_code) if response is not None else 500
    body: Any = {}
    if response is not None:
        try:
            body = response.json()
        except ValueError:
            body = {}
    if not isinstance(body, dict):
        body = {}
    body.setdefault("message", str(error.explanation or error))
    if "kind" not in body and status in (400, 500):
        body |= _guess(str(body["message"]))
    return errors.from_body(status, body)


def _guess(message: str) -> dict[str, str]:
    """The kind of a start that failed on another engine, where only the text tells."""
    if "OCI runtime" not in message and "starting container process" not in message:
        return {}
    if _MISSING.search(message):
        return {"kind": "CommandNotFound", "remedy": _RUN_IT}
    if _NOT_EXECUTABLE.search(message):
        return {"kind": "CommandNotExecutable", "remedy": _RUN_IT}
    return {"kind": "StartFailed"}


def _unreachable(error: Exception, host: str) -> errors.GlassdockError:
    text = str(error)
    if "TLS" in text or "certificate" in text:
        return errors.InvalidParameter(f"the engine on {host} wants another TLS set-up: {text}")
    if "ended prematurely" in text or "Connection broken" in text or "IncompleteRead" in text:
        return errors.Unavailable(
            "the engine ended in the middle of its answer",
            "The next command starts it again; `ps --all` shows what became of the container: it may still run.",
        )
    if "Read timed out" in text:
        return errors.Unavailable(f"the engine on {host} does not answer in time")
    if "Connection aborted" in text or "Error while fetching" in text or "refused" in text:
        return errors.Unavailable(
            f"no engine answers on {host}", "Start one there, or leave the address out: ours starts by itself."
        )
    return errors.GlassdockError(text)
