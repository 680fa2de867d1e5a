"""the-lost-letter: a whiteout hides a file, the layer below still has it, and a new layer can bring it back."""

from __future__ import annotations

from collections.abc import Iterator

from glassdock_jupyter.exercises_bench import Bench, Finding
from glassdock_jupyter.exercises_catalog import Text

PATH = "/post/letter.txt"


def failcheck(bench: Bench) -> Text | None:
    """The broken image has to be there, with the letter in one of its layers."""
    name = bench.values["image"]
    image = bench.image(name)
    if image is None:
        return Text(f"The image {name} is gone; the set-up had made it.", f"镜像 {name} 不见了，它本来是现场的一部分。")
    if not image.holds(PATH):
        return Text(
            f"The name {name} now belongs to another image, one without the letter.",
            f"{name} 这个名字现在指向了另一个镜像，里面没有那封信。",
        )
    return None


def hintcheck(bench: Bench) -> str:
    """How far the learner is."""
    image, broken = bench.image(bench.values["mended"]), bench.image(bench.values["image"])
    if image is None or image.read(PATH) is None:
        return "only-in-a-container" if _in_a_container(bench) else "nothing-done"
    if image.read(PATH) != _letter(bench):
        return "not-the-letter"
    return "other-base" if broken is not None and not image.built_on(broken) else "nothing-done"


def check(bench: Bench) -> Iterator[Finding]:
    """Built, with the letter, with these bytes, on the old layers."""
    name, broken_name = bench.values["mended"], bench.values["image"]
    image, broken, original = bench.image(name), bench.image(broken_name), _letter(bench)
    found = image.read(PATH) if image is not None else None
    yield Finding(
        found is not None,
        Text(f"the image {name} has {PATH}", f"镜像 {name} 里有 {PATH}"),
        _nowhere(bench),
        Text("the letter in an image, where every container from it finds it", "信在镜像里，从它起的每个容器都找得到"),
        Text(
            "what a container writes is its own and ends with it; an image is what the next container begins with",
            "容器写的东西只属于它自己，随它而去；镜像才是下一个容器的起点",
        ),
    )
    if image is None or found is None or broken is None:
        return
    yield Finding(
        found == original,
        Text("byte for byte the letter that was there", "和原来那封信一个字节不差"),
        Text(f"{len(found)} bytes, which are not the same", f"{len(found)} 字节，内容不一样"),
        Text(f"the {len(original)} bytes that a lower layer still has", f"下面某一层里还留着的那 {len(original)} 字节"),
        Text(
            "layers are named by the digest of their bytes: one other byte is another layer",
            "层的名字就是字节的摘要：差一个字节，就是另一层",
        ),
    )
    yield Finding(
        image.built_on(broken),
        Text(f"it stands on the layers of {broken_name}", f"它建立在 {broken_name} 的各层之上"),
        Text("other layers at the bottom", "底下是别的层"),
        Text(f"all layers of {broken_name}, and yours on top", f"{broken_name} 的所有层，上面再加你的层"),
        Text(
            "a repair that keeps the layers below is small to send, and everything else stays as it was tested",
            "保留下面各层的修复，传输量很小，其余部分也还是测试过的样子",
        ),
    )


def _letter(bench: Bench) -> bytes:
    image = bench.image(bench.values["image"])
    data = image.holds(PATH)[0].bytes_at(PATH) if image is not None else None
    return data or b""


def _in_a_container(bench: Bench) -> bool:
    container = bench.container(bench.values["name"])
    return container is not None and bench.written(container, PATH) is not None


def _nowhere(bench: Bench) -> Text:
    name = bench.values["name"]
    if _in_a_container(bench):
        return Text(
            f"a letter in the writable layer of the container {name}, and none in an image",
            f"容器 {name} 的可写层里有一封信，镜像里没有",
        )
    return Text("no image with a letter", "没有带着信的镜像")
