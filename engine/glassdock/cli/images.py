"""The verbs on images, as command lines.

Interface:
- `images`, `pull`, `push`, `build`, `tag`, `rmi`, `history`, `layers`, `inspect_image`: click commands that give
  a `Call`.
- `build` takes the Dockerfile's text as its click context's object where there is one: a notebook's cell.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from glassdock.cli.call import Call
from glassdock.cli.containers import inspect_image
from glassdock.cli.tables import human_size, show_rows
from glassdock.client import images as verbs

__all__ = ["build", "history", "images", "inspect_image", "layers", "pull", "push", "rmi", "tag"]
_HELP = {"help_option_names": ["-h", "--help"]}


@click.command(help="List images.", context_settings=_HELP)
@click.option("-a", "--all", is_flag=True, help="Show all images (default hides intermediate images)")
@click.option("-f", "--filter", "filters", multiple=True, metavar="filter", help="Filter output: KEY=VALUE")
@click.option("--digests", is_flag=True, help="Show digests")
@click.option("--format", "form", metavar="string", help="Format output: table, json, or a Go template")
@click.option("--no-trunc", is_flag=True, help="Don't truncate output")
@click.option("-q", "--quiet", is_flag=True, help="Only show image IDs")
@click.argument("name", required=False, default="", metavar="[REPOSITORY[:TAG]]")
def images(name: str, **values: Any) -> Call:
    """Parse `images`."""
    form, whole, quiet = values["form"], values["no_trunc"], values["quiet"]
    if values["digests"] and not form:
        form = "table {{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
    verb = verbs.List(name, values["all"], values["filters"])
    return Call(verb, show_rows(form, whole=whole, quiet=quiet), plain=bool(form or whole or quiet))


@click.command(help="Bring an image from a registry.", context_settings=_HELP)
@click.option("-q", "--quiet", is_flag=True, help="Suppress verbose output")
@click.option("-a", "--all-tags", is_flag=True, help="Download all tagged images in the repository")
@click.option("--platform", default="", metavar="string", help="Set platform if server is multi-platform capable")
@click.argument("name", metavar="NAME[:TAG|@DIGEST]")
def pull(name: str, quiet: bool, all_tags: bool, platform: str) -> Call:
    """Parse `pull`."""
    return Call(verbs.Pull(name, platform, all_tags), _canonical, quiet=quiet)


@click.command(help="Send an image to a registry.", context_settings=_HELP)
@click.option("-q", "--quiet", is_flag=True, help="Suppress verbose output")
@click.argument("name", metavar="NAME[:TAG]")
def push(name: str, quiet: bool) -> Call:
    """Parse `push`."""
    return Call(verbs.Push(name), _canonical if quiet else _nothing, quiet=quiet)


@click.command(help="Build an image from a Dockerfile.", context_settings=_HELP)
@click.option("-t", "--tag", "tags", multiple=True, metavar="list", help="Name and optionally a tag: name:tag")
@click.option("-f", "--file", "dockerfile", default="", metavar="string", help="Name of the Dockerfile")
@click.option("--build-arg", "build_args", multiple=True, metavar="list", help="Set build-time variables")
@click.option("--label", "labels", multiple=True, metavar="list", help="Set metadata for an image")
@click.option("--target", default="", metavar="string", help="Set the target build stage to build")
@click.option("--no-cache", is_flag=True, help="Do not use cache when building the image")
@click.option("--pull", "fresh", is_flag=True, help="Always attempt to pull a newer version of the image")
@click.option("--network", default="", metavar="string", help="The networking mode of the RUN instructions")
@click.option("--platform", default="", metavar="string", help="Set platform if server is multi-platform capable")
@click.option("--rm/--no-rm", default=True, help="Remove intermediate containers after a successful build")
@click.option("--force-rm", is_flag=True, help="Always remove intermediate containers")
@click.option("-q", "--quiet", is_flag=True, help="Suppress the build output and print image ID on success")
@click.option("--iidfile", metavar="string", help="Write the image ID to the file")
@click.option("--context", "folder", metavar="DIR", help="Glassdock: the context of a cell's Dockerfile", hidden=True)
@click.argument("path", required=False, metavar="PATH | -")
@click.pass_context
def build(ctx: click.Context, /, path: str | None, quiet: bool, iidfile: str | None, **values: Any) -> Call:
    """Parse `build`. Where the context object is a text, it is the Dockerfile: a notebook's cell."""
    text: str | None = ctx.obj if isinstance(ctx.obj, str) else None
    folder = values.pop("folder") or (path if text is not None else None)
    if text is None and path is None:
        raise click.UsageError("'glassdock build' requires 1 argument", ctx=ctx)
    if text is None and path == "-":
        text, path = sys.stdin.read(), None
    place = folder or path
    verb = verbs.Build(
        context=Path(place) if place else None,
        dockerfile=values["dockerfile"],
        text=text,
        tags=values["tags"],
        build_args=values["build_args"],
        labels={word.partition("=")[0]: word.partition("=")[2] for word in values["labels"]},
        target=values["target"],
        no_cache=values["no_cache"],
        pull=values["fresh"],
        network=values["network"],
        platform=values["platform"],
    )

    def show(image: verbs.Named) -> int:
        if iidfile:
            Path(iidfile).write_text(image.id)
        if quiet:
            click.echo(image.id)
        return 0

    return Call(verb, show, quiet=quiet)


@click.command(help="Give an image another name.", context_settings=_HELP)
@click.argument("source", metavar="SOURCE_IMAGE[:TAG]")
@click.argument("target", metavar="TARGET_IMAGE[:TAG]")
def tag(source: str, target: str) -> Call:
    """Parse `tag`."""
    return Call(verbs.Tag(source, target), _nothing)


@click.command(help="Remove images.", context_settings=_HELP)
@click.option("-f", "--force", is_flag=True, help="Force removal of the image")
@click.option("--no-prune", is_flag=True, help="Do not delete untagged parents")
@click.argument("names", nargs=-1, required=True, metavar="IMAGE [IMAGE...]")
def rmi(names: tuple[str, ...], force: bool, no_prune: bool) -> Call:
    """Parse `rmi`."""

    def show(lines: tuple[str, ...]) -> int:
        for line in lines:
            click.echo(line)
        return 0

    return Call(verbs.Remove(names, force, no_prune), show)


@click.command(help="Show the steps that made an image.", context_settings=_HELP)
@click.option("--format", "form", metavar="string", help="Format output: table, json, or a Go template")
@click.option("-H", "--human/--no-human", default=True, help="Print sizes and dates in human readable format")
@click.option("--no-trunc", is_flag=True, help="Don't truncate output")
@click.option("-q", "--quiet", is_flag=True, help="Only show image IDs")
@click.argument("name", metavar="IMAGE")
def history(name: str, form: str | None, human: bool, no_trunc: bool, quiet: bool) -> Call:
    """Parse `history`."""
    return Call(
        verbs.History(name),
        show_rows(form, whole=no_trunc, quiet=quiet, human=human),
        plain=bool(form or no_trunc or quiet or not human),
    )


@click.command(help="Show what each step of an image added, changed, deleted.", context_settings=_HELP)
@click.argument("name", metavar="IMAGE")
def layers(name: str) -> Call:
    """Parse `layers`."""

    def show(stack: verbs.LayerStack) -> int:
        for layer in reversed(stack.layers):
            click.echo(f"{human_size(layer['size']):>8}  {layer['created_by']}")
            for sign, what in (("A", "added"), ("C", "changed"), ("D", "deleted")):
                for path, *_ in layer[what]:
                    click.echo(f"          {sign} {path}")
        return 0

    return Call(verbs.Layers(name), show)


def _canonical(image: verbs.Named) -> int:
    """Docker's last line of a pull: the whole name."""
    from glassdock.oci.reference import Reference

    click.echo(str(Reference.parse(image.name)))
    return 0


def _nothing(_: verbs.Named) -> int:
    return 0
