"""stop-half-way: create makes a container with a writable layer; only start gives it a process."""

from __future__ import annotations

from collections.abc import Iterator

from glassdock_jupyter.exercises_bench import Bench, Finding
from glassdock_jupyter.exercises_catalog import Text


def hintcheck(bench: Bench) -> str:
    """How far the learner is."""
    container = bench.container(bench.values["name"])
    if container is None:
        return "nothing-yet"
    return "went-too-far" if container.ever_started else "other-command"


def check(bench: Bench) -> Iterator[Finding]:
    """Made, never started, with the right command waiting."""
    name, town = bench.values["name"], bench.values["town"]
    container = bench.container(name)
    yield Finding(
        container is not None,
        Text(f"there is a container called {name}", f"有一个叫 {name} 的容器"),
        Text("no container of that name", "没有叫这个名字的容器"),
        Text("one that has been created", "有一个已经创建好的"),
        Text(
            "a container exists before it runs: it is a record and a layer",
            "容器在运行之前就已经存在：一条记录，一个层",
        ),
    )
    if container is None:
        return
    yield Finding(
        not container.ever_started,
        Text("it has never been started", "它从没启动过"),
        Text(f"it has run, and is {container.status} now", f"它已经跑过了，现在的状态是 {container.status}"),
        Text("created, and no process yet", "created，还没有进程"),
        Text(
            "between create and start nothing runs: the moment to look, to copy files in, to connect a network",
            "create 和 start 之间什么都没在跑：正是查看、拷入文件、接上网络的时机",
        ),
    )
    yield Finding(
        container.command == ["echo", town],
        Text(f"it would run `echo {town}`", f"启动后它会运行 `echo {town}`"),
        Text(" ".join(container.command), " ".join(container.command)),
        Text(f"echo {town}", f"echo {town}"),
        Text(
            "the command is part of what create fixes; start takes none", "命令是 create 时定下的；start 不再接受命令"
        ),
    )
