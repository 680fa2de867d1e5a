"""Credentials, and the two ways in which a registry asks for them.

A registry that wants to know who is there answers 401 with a challenge. `Basic` is answered with name and password,
to the registry itself. `Bearer` names a token server (the realm): it gets name and password, or an identity token, and
the scope that is wanted (`repository:library/busybox:pull`), and gives a token for the registry that soon expires.

Interface:
- `Credentials`; `Credentials.from_header(X-Registry-Auth)`: what the docker client sends along.
- `challenges(headers)`: the parsed WWW-Authenticate headers; `chosen(...)`: the one to answer.
- `TokenRequest.of(challenge, scopes, credentials)`: the request to make; `Grant.from_token(body)`: what came of it.

Rules: pure values, no HTTP here. Secrets are not in any `repr`. Credentials go to their registry, and to a realm only
over https, unless the registry itself is spoken to in plain http.

Sources: RFC 9110 section 11; https://distribution.github.io/distribution/spec/auth/token/ and oauth/
"""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
from yarl import URL

from glassdock.errors import InvalidParameter, Unauthorized, Unavailable

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf'({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_SCHEME = re.compile(_WORD)

# Docker's token servers say nothing where they mean a minute.
_DEFAULT_LIFETIME = 60.0
_MARGIN = 10.0


class _DockerAuth(msgspec.Struct):
    """The JSON inside X-Registry-Auth."""

    username: str = ""
    password: str = ""
    identitytoken: str = ""
    registrytoken: str = ""
    auth: str = ""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who somebody is to one registry: name and password, or a token that stands for them."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)

    @classmethod
    def from_header(cls, header: str) -> Credentials | None:
        """What an X-Registry-Auth header holds, None where it holds nothing; raises InvalidParameter."""
        if not header:
            return None
        try:
            padded = header + "=" * (-len(header) % 4)
            found = msgspec.json.decode(base64.urlsafe_b64decode(padded), type=_DockerAuth)
            if found.auth and not found.username:
                username, _, password = base64.b64decode(found.auth).decode().partition(":")
                found = _DockerAuth(username, password, found.identitytoken, found.registrytoken)
        except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
            raise InvalidParameter(
                "the X-Registry-Auth header cannot be read", "It is base64url of a JSON object."
            ) from error
        made = cls(found.username, found.password, found.identitytoken, found.registrytoken)
        return made if made != cls() else None

    def basic(self) -> str:
        """The Authorization header of the Basic scheme."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way in which a server would let us in; scheme and parameter names are in lower case."""

    scheme: str
    parameters: Mapping[str, str]


def challenges(headers: Iterable[str]) -> list[Challenge]:
    """The challenges of all WWW-Authenticate headers, in their order."""
    found: list[Challenge] = []
    for header in headers:
        position = 0
        while (position := _skip(header, position)) < len(header):
            if found and (parameter := _PARAMETER.match(header, position)):
                value = parameter[3] if parameter[2] is None else re.sub(r"\\(.)", r"\1", parameter[2])
                found[-1] = Challenge(found[-1].scheme, {**found[-1].parameters, parameter[1].lower(): value})
                position = parameter.end()
            elif scheme := _SCHEME.match(header, position):
                found.append(Challenge(scheme[0].lower(), {}))
                position = scheme.end()
            else:
                position += 1
    return found


def chosen(found: Sequence[Challenge], credentials: Credentials | None) -> Challenge | None:
    """The challenge to answer: Bearer, for which anonymous may do; Basic with credentials; None if neither."""
    for challenge in found:
        if challenge.scheme == "bearer" and challenge.parameters.get("realm"):
            return challenge
    for challenge in found:
        if challenge.scheme == "basic" and credentials is not None and credentials.username:
            return challenge
    return None


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """The request to a token server: a GET, or a POST of `form` where an identity token stands for the user."""

    url: URL
    authorization: str = field(default="", repr=False)
    form: Mapping[str, str] | None = field(default=None, repr=False)

    @classmethod
    def of(
        cls, challenge: Challenge, scopes: Sequence[str], credentials: Credentials | None, *, secure: bool
    ) -> TokenRequest:
        """How to ask for a token with these scopes. `secure`: the registry is spoken to over https.

        Raises Unavailable for a realm that must not be trusted with a password.
        """
        realm = URL(challenge.parameters["realm"])
        if realm.scheme != "https" and (secure or realm.scheme != "http"):
            raise Unavailable(
                f"the registry names {realm.with_query(None)} as its token server, which is not encrypted",
                "Credentials are sent over https only; tell the registry's operator.",
            )
        service = challenge.parameters.get("service", "")
        wanted = merged(scopes, challenge.parameters.get("scope", "").split())
        if credentials is not None and credentials.identity_token:
            form = {
                "grant_type": "refresh_token",
                "refresh_token": credentials.identity_token,
                "client_id": "glassdock",
                "service": service,
                "scope": " ".join(wanted),
            }
            return cls(realm, form=form)
        query = [("service", service)] if service else []
        query += [("scope", scope) for scope in wanted]
        if credentials is None or not credentials.username:
            return cls(realm.extend_query(query))
        return cls(realm.extend_query([*query, ("account", credentials.username)]), credentials.basic())


@dataclass(frozen=True, slots=True)
class Grant:
    """An Authorization header that worked, and until when (monotonic seconds)."""

    header: str = field(repr=False)
    expires: float = float("inf")

    @classmethod
    def from_token(cls, body: bytes) -> Grant:
        """Read a token server's answer; raises Unauthorized where it holds no token."""
        try:
            answer = msgspec.json.decode(body, type=dict)
        except msgspec.MsgspecError as error:
            raise Unauthorized("the token server's answer is not JSON") from error
        token = answer.get("token") or answer.get("access_token")
        if not isinstance(token, str) or not token or not token.isprintable():
            raise Unauthorized("the token server's answer holds no token")
        stated = answer.get("expires_in")
        lifetime = float(stated) if isinstance(stated, int | float) and stated > 0 else _DEFAULT_LIFETIME
        return cls(f"Bearer {token}", time.monotonic() + max(lifetime - _MARGIN, lifetime / 2))

    @property
    def fresh(self) -> bool:
        """True while it can be used."""
        return time.monotonic() < self.expires


def repository_scope(path: str, actions: str) -> str:
    """`repository:library/busybox:pull`."""
    return f"repository:{path}:{actions}"


def merged(ours: Sequence[str], theirs: Sequence[str]) -> list[str]:
    """Our scopes, and theirs as far as ours do not hold them already: a push asks for one token, not for two."""
    held = {scope.rpartition(":")[0]: set(scope.rpartition(":")[2].split(",")) for scope in ours}
    extra = []
    for scope in theirs:
        resource, _, actions = scope.rpartition(":")
        if not set(actions.split(",")) <= held.get(resource, set()):
            extra.append(scope)
    return [*ours, *extra]


def _skip(header: str, position: int) -> int:
    while position < len(header) and header[position] in " \t,":
        position += 1
    return position
