"""The daemon: the Docker Engine API on a unix socket.

- `app.py`: the route table, on one screen.
- `main.py`: one instance, its socket, its end.
- `containers.py`, `images.py`, `build.py`, `system.py`, `networks.py`, `glassdock.py`: handlers by subject.
- `views.py`: the engine's values as the API's JSON.
- `hijack.py`: a connection that turns into a container's streams.
- `answers.py`: errors to responses, JSON lines, query parameters.
"""
