"""What only the bundled engine answers: the endpoints under `/glassdock/`.

Interface:
- `extra(client, path)`: GET `/glassdock/PATH`, decoded.
- `post(client, path, params)`: any path of the engine's API by the SDK's own HTTP session, without waiting for the
  body.

Rules: another engine gets one clear answer, `NotSupported`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glassdock import errors
from glassdock.client.mapping import mapped


def extra(client: Any, path: str) -> Any:
    """The JSON of `/glassdock/PATH`. Raises `NotSupported` on another engine, else what the engine says."""
    response = client.api.get(f"{client.api.base_url}/glassdock/{path.lstrip('/')}")
    body = _body(response)
    if response.status_code < 400:
        return body
    if response.status_code == 404 and "kind" not in body:
        raise errors.NotSupported(
            "this needs the Glassdock engine, and another engine answers here",
            "Unset GLASSDOCK_HOST, or point it at the socket of `glassdock daemon`.",
        )
    raise errors.from_body(response.status_code, body)


def post(client: Any, path: str, params: Mapping[str, str]) -> Any:
    """POST `path` and return the response as soon as its head is here. Raises what the engine says."""
    url = f"{client.api.base_url}/v{client.api.api_version}/{path}"
    with mapped(client.api.base_url):
        response = client.api.post(url, params=dict(params), stream=True, timeout=None)
    if response.status_code >= 400:
        raise errors.from_body(response.status_code, _body(response))
    return response


def _body(response: Any) -> Any:
    try:
        return response.json()
    except ValueError:
        return {}
