"""why-it-stopped: an image whose program wants a setting, and a container that was made without it."""

from __future__ import annotations

from glassdock_jupyter.exercises_bench import Bench

GREET = """#!/bin/sh
trap 'exit 0' TERM
if [ -z "$TOWN" ]; then
    echo "greet: TOWN is not set, so I do not know whom to greet" >&2
    exit {code}
fi
echo "Good morning, $TOWN!"
while :; do
    sleep 3600 &
    wait $!
done
"""

DOCKERFILE = """FROM busybox
COPY greet /usr/bin/greet
CMD ["/usr/bin/greet"]
"""


def start(bench: Bench) -> None:
    """Build the image and run the container once, each only where it is missing."""
    name, image = bench.values["name"], bench.values["image"]
    if bench.image(image) is None:
        greet = GREET.replace("{code}", bench.values["code"]).encode()
        bench.build(image, {"Dockerfile": (DOCKERFILE.encode(), 0o644), "greet": (greet, 0o755)})
        if bench.container(name) is None:
            bench.client.containers.run(image, detach=True, name=name, labels=bench.labels).wait()
