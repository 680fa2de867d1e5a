"""the-broken-start: an image whose program nobody may execute, and a container that could not start."""

from __future__ import annotations

from docker.errors import APIError

from glassdock_jupyter.exercises_bench import Bench

DOCKERFILE = """FROM busybox
COPY greet /usr/bin/greet
CMD ["/usr/bin/greet"]
"""


def greet(bench: Bench) -> bytes:
    """The program, which is right; only its permissions are not."""
    return f"#!/bin/sh\necho 'All aboard for {bench.values['town']}.'\n".encode()


def start(bench: Bench) -> None:
    """Build the image and try to run it once, each only where it is missing."""
    name, image = bench.values["name"], bench.values["image"]
    if bench.image(image) is None:
        bench.build(image, {"Dockerfile": (DOCKERFILE.encode(), 0o644), "greet": (greet(bench), 0o644)})
        if bench.container(name) is None:
            container = bench.client.containers.create(image, name=name, labels=bench.labels)
            try:
                container.start()
            except APIError:
                return  # this is what the exercise is about
            raise AssertionError(f"{image} was to be broken, and it started")
