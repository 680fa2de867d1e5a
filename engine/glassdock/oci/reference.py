"""The names of images: `busybox` is short for `docker.io/library/busybox:latest`.

    reference      := name [":" tag] ["@" digest]
    name           := domain "/" path
    domain         := host [":" port]        host: DNS name, IPv4, or IPv6 in square brackets
    path           := component ["/" component]*     at most 255 characters
    component      := [a-z0-9]+ joined by one of  .  _  __  or any number of -
    tag            := a word character, then up to 127 word characters, dots, dashes

Interface:
- `Reference.parse("busybox")`: the full reference, Docker's defaults filled in; `Reference.exact`: without `latest`.
- `str(reference)`: the full form. `reference.familiar()`: the short form that Docker prints.
- `reference.with_tag(tag)`, `with_digest(digest)`: the same repository, another thing in it.

Rules: the first component is a domain only if it holds `.` or `:`, or is `localhost`, or has an upper-case letter;
else the name is Docker Hub's. A reference may have both tag and digest: the digest then says what, the tag is a note.

Source: https://github.com/distribution/reference (the grammar of `regexp.go`, the defaults of `normalize.go`)
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from glassdock.errors import InvalidParameter
from glassdock.oci import digest as digests

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
PATH_LIMIT = 255

_LEGACY_DOMAIN = "index.docker.io"
_OFFICIAL = "library/"

_ALPHANUMERIC = r"[a-z0-9]+"
_SEPARATOR = r"(?:[._]|__|[-]+)"
_COMPONENT = rf"{_ALPHANUMERIC}(?:{_SEPARATOR}{_ALPHANUMERIC})*"
_PATH = rf"{_COMPONENT}(?:/{_COMPONENT})*"
_DOMAIN_COMPONENT = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = rf"(?:{_DOMAIN_COMPONENT}(?:\.{_DOMAIN_COMPONENT})*|\[(?:[a-fA-F0-9:]+)\])"
_DOMAIN = rf"{_HOST}(?::[0-9]+)?"
_TAG = r"\w[\w.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"

# ASCII: Go's \w is, and a tag becomes a file name and part of a URL.
_REFERENCE = re.compile(rf"({_DOMAIN})/({_PATH})(?::({_TAG}))?(?:@({_DIGEST}))?", re.ASCII)
_PATH_FORM = re.compile(_PATH, re.ASCII)
_TAG_FORM = re.compile(_TAG, re.ASCII)
_DIGEST_FORM = re.compile(_DIGEST, re.ASCII)
_IDENTIFIER = re.compile(r"[a-f0-9]{64}")


@dataclass(frozen=True, slots=True)
class Reference:
    """A repository at a registry and, by tag or digest or both, one thing in it; "" where there is none."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> Reference:
        """The reference that `text` is short for; `latest` where it names neither tag nor digest.

        Raises InvalidParameter in Docker's words.
        """
        found = cls.exact(text)
        return found if found.tag or found.digest else replace(found, tag=DEFAULT_TAG)

    @classmethod
    def exact(cls, text: str) -> Reference:
        """As `parse`, but a text without tag and digest stays the name of a whole repository."""
        if _IDENTIFIER.fullmatch(text):
            raise InvalidParameter(
                f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings",
                "64 hex digits are an image's id; put a domain before them if they are a name.",
            )
        domain, rest = _split(text)
        path = rest.partition(":")[0]
        if path.lower() != path:
            raise InvalidParameter(
                f"invalid reference format: repository name ({path}) must be lowercase",
                f"Write it in lower case: {text.replace(text.partition(':')[0], text.partition(':')[0].lower(), 1)}"
                if domain == DEFAULT_DOMAIN
                else None,
            )
        match = _REFERENCE.fullmatch(f"{domain}/{rest}")
        if match is None:
            raise InvalidParameter("invalid reference format", _hint(text))
        if len(match[2]) > PATH_LIMIT:
            raise InvalidParameter(f"repository name must not be more than {PATH_LIMIT} characters")
        return cls(match[1], match[2], match[3] or "", _digest(match[4]) if match[4] else "")

    @property
    def name(self) -> str:
        """The repository, in full: `docker.io/library/busybox`."""
        return f"{self.domain}/{self.path}"

    @property
    def target(self) -> str:
        """What the registry is asked for: the digest if there is one, else the tag."""
        return self.digest or self.tag

    def familiar_name(self) -> str:
        """The repository as Docker prints it: `busybox`, `me/app`, `127.0.0.1:5000/app`."""
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        rest = self.path.removeprefix(_OFFICIAL)
        return rest if "/" not in rest else self.path

    def familiar(self) -> str:
        """The reference as Docker prints it: `busybox:latest`."""
        return self.familiar_name() + self._suffix()

    def with_tag(self, tag: str) -> Reference:
        """The same repository and digest with this tag; raises InvalidParameter."""
        if not _TAG_FORM.fullmatch(tag):
            raise InvalidParameter(
                f"invalid tag format: {tag!r}",
                "A tag has at most 128 letters, digits, dots, dashes and underscores, and begins with no dot or dash.",
            )
        return replace(self, tag=tag)

    def with_digest(self, digest: str) -> Reference:
        """The same repository and tag with this digest; raises InvalidParameter."""
        return replace(self, digest=_digest(digest))

    def repository(self) -> Reference:
        """The name alone, without tag and digest."""
        return Reference(self.domain, self.path)

    def __str__(self) -> str:
        return self.name + self._suffix()

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def is_path(text: str) -> bool:
    """True if `text` can be a repository's name at a registry."""
    return len(text) <= PATH_LIMIT and _PATH_FORM.fullmatch(text) is not None


def is_tag(text: str) -> bool:
    """True if `text` can be a tag."""
    return _TAG_FORM.fullmatch(text) is not None


def _split(text: str) -> tuple[str, str]:
    """Domain and rest, Docker Hub's filled in (`splitDockerDomain` of normalize.go)."""
    first, slash, rest = text.partition("/")
    if not slash:
        return DEFAULT_DOMAIN, _OFFICIAL + text
    if first == _LEGACY_DOMAIN:
        first = DEFAULT_DOMAIN
    if not (first == "localhost" or "." in first or ":" in first or first.lower() != first):
        return DEFAULT_DOMAIN, text
    if first == DEFAULT_DOMAIN and "/" not in rest:
        rest = _OFFICIAL + rest
    return first, rest


def _digest(text: str) -> str:
    """A checked digest, or go-digest's complaint."""
    algorithm, _, encoded = text.partition(":")
    lengths = {"sha256": 64, "sha512": 128}
    if not _DIGEST_FORM.fullmatch(text):
        raise InvalidParameter(f"invalid digest format: {text!r}", "A digest is sha256: and 64 lower-case hex digits.")
    if algorithm not in lengths:
        raise InvalidParameter(f"unsupported digest algorithm: {algorithm}", "Known ones are sha256 and sha512.")
    if len(encoded) != lengths[algorithm]:
        raise InvalidParameter(
            f"invalid checksum digest length: {len(encoded)} hex digits",
            f"{algorithm} has {lengths[algorithm]}; copy the digest whole.",
        )
    if encoded != encoded.lower():
        raise InvalidParameter("invalid checksum digest format", "Write the digest's hex digits in lower case.")
    return digests.parse(text)


def _hint(text: str) -> str | None:
    if not text:
        return "Name an image, for example busybox or docker.io/library/busybox:latest."
    if "://" in text:
        return f"An image's name has no scheme: {text.partition('://')[2]}"
    if any(character.isspace() for character in text):
        return "An image's name has no spaces."
    return "An image's name is [REGISTRY/]NAME[:TAG][@DIGEST], for example busybox:latest."
