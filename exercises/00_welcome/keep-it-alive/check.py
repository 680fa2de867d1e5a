"""keep-it-alive: a container lives as long as its first process, and that process has the environment it was given."""

from __future__ import annotations

from collections.abc import Iterator

from glassdock_jupyter.exercises_bench import Bench, Finding
from glassdock_jupyter.exercises_catalog import Text


def hintcheck(bench: Bench) -> str:
    """How far the learner is."""
    container = bench.container(bench.values["name"])
    if container is None:
        return "nothing-yet"
    return "no-town" if container.running else "it-ended"


def check(bench: Bench) -> Iterator[Finding]:
    """There, alive, and with the town in the environment of the live process."""
    name, town = bench.values["name"], bench.values["town"]
    container = bench.settled(name)
    yield Finding(
        container is not None,
        Text(f"there is a container called {name}", f"有一个叫 {name} 的容器"),
        Text("no container of that name", "没有叫这个名字的容器"),
        Text("one, running or not", "有一个，不管是否在运行"),
        Text("everything that you can do with a container begins with its name", "对容器做任何事，都从它的名字开始"),
    )
    if container is None:
        return
    yield Finding(
        container.running,
        Text("its first process is alive", "它的第一个进程活着"),
        Text(
            f"it is {container.status}, and its process ended with exit code {container.exit_code}",
            f"它的状态是 {container.status}，进程已经结束，退出码 {container.exit_code}",
        ),
        Text("a process that the kernel of this machine still knows", "这台机器的内核还认得这个进程"),
        Text(
            "a container is a process: when its first process ends, the container has ended, however well it did",
            "容器就是进程：第一个进程一结束，容器就结束了，哪怕它干得很漂亮",
        ),
    )
    seen = container.environment.get("TOWN")
    yield Finding(
        seen == town,
        Text(f"its process finds TOWN={town}", f"进程的环境里有 TOWN={town}"),
        Text(f"TOWN={seen}", f"TOWN={seen}") if seen is not None else Text("no TOWN at all", "根本没有 TOWN"),
        Text(f"TOWN={town}", f"TOWN={town}"),
        Text(
            "the same image serves every place because its settings come from outside, when the container is made",
            "设置在创建容器时从外面给进去，同一个镜像才能到处使用",
        ),
    )
