"""the-broken-start: the program of an image has to be there and executable; a permission is part of a layer."""

from __future__ import annotations

from collections.abc import Iterator

from glassdock_jupyter.exercises_bench import Bench, Finding, SeenContainer, SeenImage
from glassdock_jupyter.exercises_catalog import Text

PROGRAM = "/usr/bin/greet"


def failcheck(bench: Bench) -> Text | None:
    """The broken image belongs to the set-up."""
    name = bench.values["image"]
    image = bench.image(name)
    if image is None or image.read(PROGRAM) is None:
        return Text(f"The image {name} of the set-up is gone.", f"现场的镜像 {name} 不见了。")
    if (image.mode(PROGRAM) or 0) & 0o111:
        return Text(
            f"The name {name} now belongs to an image that is not broken.", f"{name} 这个名字现在指向了一个没坏的镜像。"
        )
    return None


def hintcheck(bench: Bench) -> str:
    """How far the learner is."""
    image, container = bench.image(bench.values["mended"]), bench.container(bench.values["name"])
    if image is None or not _executable(image):
        return "another-door" if container is not None and container.ever_started else "nothing-done"
    return "other-greeting" if not _same(bench, image) else "not-run"


def check(bench: Bench) -> Iterator[Finding]:
    """An image that is mended and otherwise the same, and a container that ran from it to its end."""
    name, mended, broken = (bench.values[key] for key in ("name", "mended", "image"))
    image, container = bench.image(mended), bench.container(name)
    yield Finding(
        image is not None and _executable(image),
        Text(f"the image {mended} has a {PROGRAM} that can be executed", f"镜像 {mended} 里的 {PROGRAM} 可以执行"),
        _so_far(image, container, mended),
        Text("x in its permissions", "权限里有 x"),
        Text(
            "a repair on the command line helps one container; a repair in the image helps all that follow",
            "在命令行上修，只救得了一个容器；在镜像里修，后来的都得救",
        ),
    )
    if image is None:
        return
    yield Finding(
        _same(bench, image),
        Text(
            f"it is still the program of {broken}, on the layers of {broken}",
            f"它还是 {broken} 的程序，建立在 {broken} 的各层之上",
        ),
        Text("other bytes, or other layers", "字节变了，或者层变了"),
        Text("the same bytes with another permission", "同样的字节，不同的权限"),
        Text(
            "permissions are stored with the file in its layer: `chmod` alone makes a layer of its own",
            "权限和文件一起存在层里：单单一个 `chmod`，就自成一层",
        ),
    )
    ran = container is not None and container.image_id == image.id and container.ever_started
    yield Finding(
        ran and container is not None and container.command == [PROGRAM] and container.exit_code == 0,
        Text(
            f"the container {name} has run {mended} as it is, to a good end",
            f"容器 {name} 原样运行了 {mended}，并顺利结束",
        ),
        _of_run(container, image),
        Text(f"{PROGRAM} from {mended}, exit code 0", f"来自 {mended} 的 {PROGRAM}，退出码 0"),
        Text("the flow is whole again only when its last step has happened", "最后一步也走完了，流程才算真正恢复"),
    )


def _executable(image: SeenImage) -> bool:
    return bool((image.mode(PROGRAM) or 0) & 0o111)


def _same(bench: Bench, image: SeenImage) -> bool:
    broken = bench.image(bench.values["image"])
    return broken is not None and image.built_on(broken) and image.read(PROGRAM) == broken.read(PROGRAM)


def _so_far(image: SeenImage | None, container: SeenContainer | None, mended: str) -> Text:
    if image is not None:
        return Text(f"mode {image.mode(PROGRAM) or 0:o}", f"权限是 {image.mode(PROGRAM) or 0:o}")
    if container is not None and container.ever_started:
        command = " ".join(container.command)
        return Text(
            f"no image {mended}; a container that was made to run `{command}` instead",
            f"没有镜像 {mended}；倒是有个容器被指使去运行了 `{command}`",
        )
    return Text(f"no image {mended}", f"没有镜像 {mended}")


def _of_run(container: SeenContainer | None, image: SeenImage) -> Text:
    if container is None:
        return Text("no such container", "没有这个容器")
    if container.image_id != image.id:
        return Text("a container that was made from another image", "这个容器是用另一个镜像做的")
    if not container.ever_started:
        return Text("it has not been started", "它还没启动过")
    command = " ".join(container.command)
    return Text(
        f"`{command}`, {container.status}, exit code {container.exit_code}",
        f"`{command}`，{container.status}，退出码 {container.exit_code}",
    )
