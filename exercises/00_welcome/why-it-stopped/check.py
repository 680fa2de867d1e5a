"""why-it-stopped: the image's own program runs, and has the setting that it was missing."""

from __future__ import annotations

from collections.abc import Iterator

from glassdock_jupyter.exercises_bench import Bench, Finding, SeenContainer
from glassdock_jupyter.exercises_catalog import Text

PROGRAM = "/usr/bin/greet"


def failcheck(bench: Bench) -> Text | None:
    """The image belongs to the set-up: without it nobody can solve this."""
    image = bench.values["image"]
    if bench.image(image) is None:
        return Text(
            f"The image {image} is gone; the set-up had made it.", f"镜像 {image} 不见了，它本来是现场的一部分。"
        )
    return None


def hintcheck(bench: Bench) -> str:
    """How far the learner is."""
    container = bench.container(bench.values["name"])
    if container is None:
        return "removed"
    if not container.running:
        return "nothing-done"
    return "other-town" if _own_program(bench, container) else "other-program"


def check(bench: Bench) -> Iterator[Finding]:
    """There, alive, running the image's program, with the right town."""
    name, image, town = (bench.values[key] for key in ("name", "image", "town"))
    container = bench.settled(name)
    yield Finding(
        container is not None,
        Text(f"there is a container called {name}", f"有一个叫 {name} 的容器"),
        Text("no container of that name", "没有叫这个名字的容器"),
        Text(f"one made from {image}", f"有一个用 {image} 做的"),
        Text("removing a broken container is half of the repair", "删掉坏的容器，只是修了一半"),
    )
    if container is None:
        return
    yield Finding(
        container.running,
        Text("its first process is alive", "它的第一个进程活着"),
        Text(
            f"it is {container.status} with exit code {container.exit_code}",
            f"它的状态是 {container.status}，退出码 {container.exit_code}",
        ),
        Text("a live process", "一个活着的进程"),
        Text(
            "the exit code and the log are all that a container can tell after its end, and often all you need",
            "容器结束之后，能告诉你的只有退出码和日志，而这往往就够了",
        ),
    )
    yield Finding(
        _own_program(bench, container),
        Text(f"it runs the program of {image}", f"它运行的是 {image} 自带的程序"),
        Text(" ".join(container.arguments), " ".join(container.arguments)),
        Text(f"/bin/sh {PROGRAM}, from {image}", f"来自 {image} 的 /bin/sh {PROGRAM}"),
        Text(
            "a container that is alive and does something else looks healthy in every list",
            "活着、却在干别的事的容器，在任何列表里看起来都很健康",
        ),
    )
    seen = container.environment.get("TOWN", "")
    yield Finding(
        seen == town,
        Text(f"it greets {town}", f"它问候的是 {town}"),
        Text(f"TOWN={seen}", f"TOWN={seen}"),
        Text(f"TOWN={town}", f"TOWN={town}"),
        Text("the setting is the whole difference between the two containers", "两个容器的全部差别，就在这个设置上"),
    )


def _own_program(bench: Bench, container: SeenContainer) -> bool:
    image = bench.image(bench.values["image"])
    return image is not None and container.image_id == image.id and PROGRAM in container.arguments
