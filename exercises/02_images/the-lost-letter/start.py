"""the-lost-letter: an image whose last instruction deletes the file that its program needs."""

from __future__ import annotations

from glassdock_jupyter.exercises_bench import Bench

DOCKERFILE = """FROM busybox
COPY letter.txt /post/letter.txt
COPY deliver /usr/bin/deliver
RUN rm -r /post
CMD ["/usr/bin/deliver"]
"""

DELIVER = b"""#!/bin/sh
cat /post/letter.txt
"""


def letter(bench: Bench) -> bytes:
    """The letter, which nobody but the learner will have."""
    town, platform = bench.values["town"], bench.values["platform"]
    return f"Dear friend,\nmeet me in {town}, on platform {platform}.\nI shall carry a paper lantern.\n".encode()


def start(bench: Bench) -> None:
    """Build the image and run the container once, each only where it is missing."""
    name, image = bench.values["name"], bench.values["image"]
    if bench.image(image) is None:
        files = {
            "Dockerfile": (DOCKERFILE.encode(), 0o644),
            "letter.txt": (letter(bench), 0o644),
            "deliver": (DELIVER, 0o755),
        }
        bench.build(image, files)
        if bench.container(name) is None:
            bench.client.containers.run(image, detach=True, name=name, labels=bench.labels).wait()
