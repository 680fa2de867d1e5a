"""Builds on the real kernel: layers, history, the cache and its reasons, failures, the classic stream."""

from __future__ import annotations

import asyncio
import io
import os
import re
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from glassdock.build.builder import Builder
from glassdock.build.options import BuildOptions
from glassdock.errors import BuildError, Corrupt, InvalidParameter, NotFound, NotSupported
from glassdock.oci.image import ContainerConfig
from glassdock.oci.reference import Reference
from tests.build.workshop import Workshop, context

pytestmark = pytest.mark.needs_root


async def test_each_instruction_is_a_line_of_history_and_changes_of_files_are_layers(
    shop: Workshop, short_tmp: Path
) -> None:
    text = 'FROM base\nENV A=1\nRUN echo $A > /new; rm /old\nWORKDIR /data\nWORKDIR /made\nCOPY a .\nCMD ["sh"]\n'
    image = await shop.build(context(short_tmp / "c", text, a="A"), tags=("made:1", "other"))
    files = shop.files(image)
    assert (files["/new"], files["/made/a"], "/old" in files) == ("1\n", "A", False)
    assert [(entry.created_by, entry.empty_layer) for entry in image.config.history] == [
        ("ADD rootfs.tar /", False),
        ("ENV A=1", True),
        ("RUN /bin/sh -c echo $A > /new; rm /old", False),
        ("WORKDIR /data", True),  # it was there
        ("WORKDIR /made", False),
        ("COPY a .", False),
        ('CMD ["sh"]', True),
    ]
    assert len(image.layers) == len([entry for entry in image.config.history if not entry.empty_layer])
    assert image.config.rootfs.diff_ids == tuple(layer.diff_id for layer in image.layers)
    assert image.repo_tags == ("made:1", "other:latest")
    assert (image.config.config.env, image.config.config.working_dir) == (("A=1",), "/made")


async def test_the_stream_is_the_classic_builder_s(shop: Workshop, short_tmp: Path) -> None:
    text = "ARG T=base\nFROM $T AS b\nRUN echo hi; echo oops >&2\nFROM $T\nCOPY --from=b /old /x\nLABEL a=b\n"
    folder = context(short_tmp / "c", text)
    image = await shop.build(folder, tags=("made",), build_args={"UNUSED": "1"})
    shown = re.sub(r"[0-9a-f]{12}", "ID", shop.text)
    assert shown == (
        "Step 1/6 : ARG T=base\n ---> \n"
        "Step 2/6 : FROM $T AS b\n ---> ID\n"
        "Step 3/6 : RUN echo hi; echo oops >&2\n ---> Running in ID\nhi\noops\n"
        "Removing intermediate container ID\n ---> ID\n"
        "Step 4/6 : FROM $T\n ---> ID\n"
        "Step 5/6 : COPY --from=b /old /x\n ---> ID\n"
        "Step 6/6 : LABEL a=b\n ---> ID\n"
        "[Warning] One or more build-args [UNUSED] were not consumed\n"
        "Successfully built ID\nSuccessfully tagged made:latest\n"
    )
    assert {"aux": {"ID": image.id}} in shop.said
    assert f"Successfully built {image.id[7:19]}\n" in shop.text
    again = await shop.build(folder, tags=("made",))
    assert again.id == image.id
    assert shop.text.count(" ---> Using cache\n") == 3
    quiet = await shop.build(folder, quiet=True)
    assert (quiet.id, shop.said) == (image.id, [{"stream": f"{image.id}\n"}])


async def test_a_cached_build_runs_nothing(shop: Workshop, short_tmp: Path) -> None:
    folder = context(short_tmp / "c", "FROM base\nRUN echo 1 > /1\nCOPY a /a\nRUN cat /a > /2\n", a="A")
    first = await shop.build(folder)
    os.utime(folder / "a")  # a fresh clone has other times
    assert (await shop.build(folder)).id == first.id
    assert len(shop.runner.requests) == 2
    record = shop.builder.record(first.id)
    assert record
    assert [step.cached for step in record.steps] == [True, True, True]
    await shop.build(folder, no_cache=True)
    assert len(shop.runner.requests) == 4


REASONS = [
    ("nothing", {}, {}, [], ["", "", "", ""]),
    ("content", {"a": "other"}, {}, [], ["", "", "content changed: a", "a step before it was built again"]),
    ("mode", {"a": "chmod"}, {}, [], ["", "", "content changed: a", "a step before it was built again"]),
    ("argument", {}, {"V": "2"}, [], [
        "environment changed: V", "a step before it was built again", "a step before it was built again",
        "a step before it was built again",
    ]),
    ("command", {}, {}, [("echo 2", "echo 4")], [
        "", "new, or written differently", "a step before it was built again", "a step before it was built again",
    ]),
    ("label before", {}, {}, [("ARG V=1", "ARG V=1\nLABEL x=y")], ["", "", "", ""]),
    ("folder", {}, {}, [("RUN echo 1", "ENV H=1\nRUN echo 1")], [
        "environment changed: H", *["a step before it was built again"] * 3,
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "files", "arguments", "edits", "reasons"), REASONS, ids=[row[0] for row in REASONS])
async def test_the_reason_of_a_miss_is_kept(
    shop: Workshop, short_tmp: Path, name: str, files: dict[str, str], arguments: dict[str, str],
    edits: list[tuple[str, str]], reasons: list[str],
) -> None:  # fmt: skip
    text = "FROM base\nARG V=1\nRUN echo 1 > /1\nRUN echo 2 > /2\nCOPY a b /data/\nRUN echo 3 > /3\n"
    folder = context(short_tmp / "c", text, a="A", b="B")
    await shop.build(folder, tags=("x",))
    for path, content in files.items():
        (folder / path).chmod(0o600) if content == "chmod" else (folder / path).write_text(content)
    for old, new in edits:
        text = text.replace(old, new)
    (folder / "Dockerfile").write_text(text)
    image = await shop.build(folder, tags=("x",), build_args=arguments)
    record = shop.builder.record(image.id)
    assert record
    found = [step for step in record.steps if step.text.startswith(("RUN", "COPY"))]
    told = [step.reason for step in found]
    assert told == reasons
    assert [step.cached for step in found] == [not reason for reason in told]


async def test_a_new_and_a_removed_file_are_told(shop: Workshop, short_tmp: Path) -> None:
    folder = context(short_tmp / "c", "FROM base\nCOPY d /d\n", d__a="A", d__b="B")
    await shop.build(folder)
    (folder / "d/c").write_text("C")
    record = shop.builder.record((await shop.build(folder)).id)
    assert record
    assert record.steps[0].reason == "content changed: d/c new"
    (folder / "d/b").unlink()
    record = shop.builder.record((await shop.build(folder)).id)
    assert record
    assert record.steps[0].reason == "content changed: d/b gone"


async def test_a_removed_layer_is_built_again(shop: Workshop, short_tmp: Path) -> None:
    folder = context(short_tmp / "c", "FROM base\nRUN echo 1 > /1\n")
    image = await shop.build(folder, tags=("x",))
    shop.store.remove("x")
    assert not shop.snapshots.has(str(image.chain_id))
    again = await shop.build(folder)
    record = shop.builder.record(again.id)
    assert record
    assert (record.steps[0].cached, record.steps[0].reason) == (False, "its layer was removed")


async def test_layers_of_stages_left_behind_are_held_by_the_cache(shop: Workshop, short_tmp: Path) -> None:
    folder = context(short_tmp / "c", "FROM base AS b\nRUN echo 1 > /1\nFROM base\nCOPY --from=b /1 /2\n")
    image = await shop.build(folder, tags=("x",))
    held = shop.builder.cache.chains()
    assert len(held) == 1
    assert str(image.chain_id) not in held
    shop.snapshots.repair([], shop.store.live_chains())
    await shop.build(folder, tags=("x",))
    assert len(shop.runner.requests) == 1
    shop.builder.prune()
    shop.store.sweep()
    assert not any(shop.snapshots.has(chain) for chain in held)


async def test_record_says_which_line_made_which_layer(shop: Workshop, short_tmp: Path) -> None:
    text = "FROM base\n\nRUN echo 1 \\\n  > /1\nENV A=1\nCOPY <<EOF /f\nx\nEOF\n"
    image = await shop.build(context(short_tmp / "c", text), dockerfile="Dockerfile")
    record = shop.builder.record(image.id)
    assert record
    assert record.text == text
    assert [(step.start, step.end, bool(step.layer)) for step in record.steps] == [
        (3, 4, True), (5, 5, False), (6, 8, True),
    ]  # fmt: skip
    assert [step.layer for step in record.steps if step.layer] == [layer.diff_id for layer in image.layers[1:]]
    assert record.steps[0].duration > 0
    names = [span.name for span in shop.builder.spans(image.id)]
    assert names.count("build.step") == 3
    assert names[0] == "build.parse"
    assert shop.builder.record(shop.store.get("base").id) is None


async def test_a_failed_command_has_docker_s_words_file_line_and_code(shop: Workshop, short_tmp: Path) -> None:
    with pytest.raises(BuildError) as caught:
        await shop.build(context(short_tmp / "c", "FROM base\nRUN echo 1 > /1\nRUN exit 7\n"), tags=("x",))
    error = caught.value
    assert error.message == "The command '/bin/sh -c exit 7' returned a non-zero code: 7 (Dockerfile line 3)"
    assert (error.file, error.line, error.code) == ("Dockerfile", 3, 7)
    assert error.remedy == "Look at line 3 of Dockerfile: RUN exit 7"
    assert shop.snapshots.keys() == {}
    assert os.listdir(shop.paths.tmp) == []
    with pytest.raises(NotFound):
        shop.store.get("x")
    with pytest.raises(BuildError):
        await shop.build(short_tmp / "c")
    assert len(shop.runner.requests) == 3  # what had worked came from the cache


async def test_a_cancelled_build_leaves_nothing(shop: Workshop, short_tmp: Path) -> None:
    build = asyncio.create_task(shop.build(context(short_tmp / "c", "FROM base\nRUN sleep 60\n")))
    while not shop.runner.requests:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    build.cancel()
    with pytest.raises(asyncio.CancelledError):
        await build
    assert shop.snapshots.keys() == {}
    assert os.listdir(shop.paths.tmp) == []


async def test_builds_at_the_same_time_do_not_disturb_each_other(shop: Workshop, short_tmp: Path) -> None:
    folder = context(short_tmp / "c", "FROM base\nCOPY a /a\nWORKDIR /w\nCOPY a .\n", a="A")
    images = await asyncio.gather(*(
        shop.builder.build(folder, BuildOptions(tags=(f"x:{number}",)), lambda _: None) for number in range(6)
    ))  # fmt: skip
    assert {str(shop.files(shop.store.get(image))) for image in images} == {str(shop.files(shop.store.get(images[0])))}
    assert shop.snapshots.keys() == {}


async def test_from_scratch_and_from_without_steps(shop: Workshop, short_tmp: Path) -> None:
    folder = context(short_tmp / "c", 'FROM scratch\nCOPY a /\nCMD ["/a"]\n', a="A")
    image = await shop.build(folder)
    assert shop.files(image) == {"/a": "A"}
    assert image.config.config.env == ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",)
    (folder / "Dockerfile").write_text("FROM base\n")
    image = await shop.build(folder, tags=("alias",))
    assert image.id == shop.store.get("base").id
    assert image.repo_tags == ("alias:latest", "base:latest")


async def test_copy_from_an_image_and_from_nothing(shop: Workshop, short_tmp: Path) -> None:
    folder = context(short_tmp / "c", "FROM scratch AS empty\nFROM scratch\nCOPY --from=base /old /x\n")
    assert shop.files(await shop.build(folder)) == {"/x": "old"}
    (folder / "Dockerfile").write_text("FROM scratch AS empty\nFROM scratch\nCOPY --from=empty /old /x\n")
    with pytest.raises(BuildError, match="COPY failed: stat old: file does not exist"):
        await shop.build(folder)


async def test_triggers_of_the_base_image_are_carried_out(shop: Workshop, short_tmp: Path) -> None:
    shop.image("parent", {}, ContainerConfig(on_build=("COPY a /a", "RUN cat /a > /b")))
    image = await shop.build(context(short_tmp / "c", "FROM parent\nRUN cat /b > /c\n", a="A"))
    assert shop.files(image)["/c"] == "A"
    assert "Step 1/2 : COPY a /a" in shop.text
    assert image.config.config.on_build is None


async def test_a_missing_dockerfile_and_a_missing_image(shop: Workshop, short_tmp: Path) -> None:
    folder = context(short_tmp / "c", "FROM base\n")
    for name in ("other", "../c/../../Dockerfile2", "/etc/passwd"):
        with pytest.raises(BuildError, match="Cannot locate specified Dockerfile"):
            await shop.build(folder, dockerfile=name)
    with pytest.raises(InvalidParameter):
        await shop.build(folder, tags=("Bad Name",))
    (folder / "Dockerfile").write_bytes(b"FROM base\n\xff\n")
    with pytest.raises(BuildError, match="line 2 is not UTF-8"):
        await shop.build(folder)
    (folder / "Dockerfile").write_text("FROM base\nRUN --security=insecure y\n")
    with pytest.raises(NotSupported):
        await shop.build(folder)
    assert shop.said == []


async def test_a_dockerfile_has_its_own_ignore_file(shop: Workshop, short_tmp: Path) -> None:
    folder = context(short_tmp / "c", "", a="A", b="B")
    (folder / "my.Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    (folder / "my.Dockerfile.dockerignore").write_text("*\n!a\n")
    (folder / ".dockerignore").write_text("a\n")
    assert shop.files(await shop.build(folder, dockerfile="my.Dockerfile")) == {"/a": "A"}


async def test_a_new_engine_finds_the_cache(shop: Workshop, short_tmp: Path) -> None:
    folder = context(short_tmp / "c", "FROM base\nRUN echo 1 > /1\n")
    first = await shop.build(folder)
    builder = Builder(shop.paths, shop.store, shop.snapshots, shop.registry, shop.runner)
    assert await builder.build(folder, BuildOptions(), lambda _: None) == first.id
    for entry in (shop.paths.build / "cache").iterdir():
        entry.write_text("{broken")
    assert await builder.build(folder, BuildOptions(), lambda _: None) != first.id


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 1000):
        yield data[start : start + 1000]


def packed(mode: str, **files: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:  # type: ignore[call-overload]  # a mode as plain text
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            if content.startswith("-> "):
                entry.type, entry.linkname, entry.size = tarfile.SYMTYPE, content[3:], 0
            tar.addfile(entry, io.BytesIO(content.encode()))
    return out.getvalue()


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
async def test_the_context_is_unpacked(shop: Workshop, short_tmp: Path, mode: str) -> None:
    folder = short_tmp / "context"
    folder.mkdir()
    evil = {"../up": "U", "/abs": "Z", "link": "-> /", "link/through": "T", "a/b": "B"}
    await shop.builder.receive(chunks(packed(mode, Dockerfile="FROM base\n", **evil)), folder)
    assert (folder / "Dockerfile").read_text() == "FROM base\n"
    assert sorted(os.listdir(folder)) == ["Dockerfile", "a", "abs", "link", "through", "up"]
    assert os.listdir(short_tmp) == ["context", "state"] or sorted(os.listdir(short_tmp)) == ["context", "state"]


async def test_a_context_that_is_no_tar_is_refused(shop: Workshop, short_tmp: Path) -> None:
    folder = short_tmp / "context"
    folder.mkdir()
    with pytest.raises(InvalidParameter, match="no tar archive"):
        await shop.builder.receive(chunks(b"FROM base\n" * 100), folder)
    with pytest.raises(Corrupt):
        await shop.builder.receive(chunks(packed("w", a="x" * 5000)[:3000]), folder)
    await shop.builder.receive(chunks(b""), short_tmp / "context")


async def test_an_image_that_was_built_is_what_the_store_says(shop: Workshop, short_tmp: Path) -> None:
    image = await shop.build(context(short_tmp / "c", "FROM base\nCOPY a /a\n", a="A" * 1000))
    assert image.layers[-1].size == 1000
    assert shop.store.get(image.id[7:19]).id == image.id
    shop.store.tag(image, Reference.parse("again"))
    assert shop.store.get("again").id == image.id


async def test_checks_warn_before_the_first_step_and_end_the_build_where_they_are_errors(
    shop: Workshop, short_tmp: Path
) -> None:
    text = "FROM base\nENV WHO=$NOBODY\nCMD x\n"
    await shop.build(context(short_tmp / "c", text))
    warning = "[Warning] UndefinedVar: Usage of undefined variable '$NOBODY' (Dockerfile line 2)\n"
    assert shop.text.index(warning) < shop.text.index("Step 1/3")
    with pytest.raises(BuildError, match="lint violation found for rules: JSONArgsRecommended, UndefinedVar"):
        await shop.build(context(short_tmp / "d", f"# check=error=true\n{text}"))
    assert "Step 1" not in shop.text
