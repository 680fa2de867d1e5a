"""The client's side: how the command line, the magics and the notebooks talk to an engine.

The official Docker SDK carries the requests, so the same verbs drive the bundled engine, Docker or Podman;
what only the bundled engine has is asked for under `/glassdock/`.

Interface:
- `connect(host=None)`: a `docker.DockerClient` on our socket; starts the daemon where none answers.
- `Session(...)`: one caller's connection, where output goes, and the labels of what it makes.
- `extra(client, path)`: the JSON of one of the engine's own endpoints.
- `containers`, `images`, `run`, `system`: a verb is a frozen dataclass with `do(session)`, which returns a value.
- `mapped(host)`: the one place where the SDK's errors become those of `glassdock.errors`.

Rules: nothing is printed here, output goes to `Session.output`; a module imports the SDK only when a verb runs.
"""

from __future__ import annotations

from glassdock.client.connect import connect
from glassdock.client.extras import extra
from glassdock.client.mapping import mapped
from glassdock.client.session import Output, Session, Silent

__all__ = ["Output", "Session", "Silent", "connect", "extra", "mapped"]
