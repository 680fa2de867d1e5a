"""leave-no-scratch: a deletion in a later layer hides a file; only what never ends an instruction leaves no bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from glassdock_jupyter.exercises_bench import Bench, Finding, SeenImage, SeenLayer
from glassdock_jupyter.exercises_catalog import Text


def hintcheck(bench: Bench) -> str:
    """How far the learner is."""
    image = bench.image(bench.values["image"])
    if image is None:
        return "nothing-yet"
    if _sum(image) != _expected(bench):
        return "no-sum"
    return "in-plain-sight" if image.read("/scratch") is not None else "still-underneath"


def check(bench: Bench) -> Iterator[Finding]:
    """Built, right, clean to look at, and clean underneath."""
    name, count = bench.values["image"], bench.values["count"]
    image = bench.image(name)
    yield Finding(
        image is not None,
        Text(f"there is an image called {name}", f"有一个叫 {name} 的镜像"),
        Text("no image of that name", "没有叫这个名字的镜像"),
        Text("one", "有一个"),
        Text("a build that is not tagged is hard to find again", "没有标签的构建结果，很难再找到"),
    )
    if image is None:
        return
    seen = _sum(image)
    yield Finding(
        seen == _expected(bench),
        Text(f"/sum has the sum of `seq {count}`", f"/sum 里是 `seq {count}` 的校验和"),
        Text(seen[:16] + "…", seen[:16] + "…") if seen else Text("no /sum in the image", "镜像里没有 /sum"),
        Text(_expected(bench)[:16] + "…", _expected(bench)[:16] + "…"),
        Text("an image that is small and wrong helps nobody", "又小又错的镜像，对谁都没用"),
    )
    yield Finding(
        image.read("/scratch") is None,
        Text("a container does not see /scratch", "容器里看不见 /scratch"),
        Text("/scratch is there", "/scratch 还在"),
        Text("no such file", "没有这个文件"),
        Text("what a build leaves lying around, every container inherits", "构建时落下的东西，每个容器都会继承"),
    )
    heavy = [layer for layer in _own(bench, image) if layer.size >= _size(bench)]
    at = ", ".join(f"{layer.size} bytes by `{layer.created_by}`" for layer in heavy)
    zh = "，".join(f"`{layer.created_by}` 这一层有 {layer.size} 字节" for layer in heavy)
    yield Finding(
        not heavy and not image.holds("/scratch"),
        Text("no layer carries its bytes", "任何一层都不含它的字节"),
        Text(at or "/scratch in a layer, hidden by a later one", zh or "/scratch 还在某一层里，只是被后面的层挡住了"),
        Text(
            f"nothing as large as the {_size(bench)} bytes of the numbers",
            f"没有哪一层大到装得下那 {_size(bench)} 字节的数字",
        ),
        Text(
            'everyone who pulls the image pulls every layer: a secret or a gigabyte that was "deleted" travels along',
            "拉取镜像会拉取每一层：一个被“删掉”的密码，或者一个 GB，照样跟着走",
        ),
    )


def _numbers(bench: Bench) -> bytes:
    return b"".join(b"%d\n" % number for number in range(1, int(bench.values["count"]) + 1))


def _expected(bench: Bench) -> str:
    return hashlib.sha256(_numbers(bench)).hexdigest()


def _size(bench: Bench) -> int:
    return len(_numbers(bench))


def _sum(image: SeenImage) -> str:
    words = (image.read("/sum") or b"").split()
    return words[0].decode(errors="replace") if words else ""


def _own(bench: Bench, image: SeenImage) -> tuple[SeenLayer, ...]:
    """The layers above busybox, whose own weight is nobody's fault."""
    base = bench.image("busybox")
    return image.layers[len(base.layers) :] if base is not None and image.built_on(base) else image.layers
