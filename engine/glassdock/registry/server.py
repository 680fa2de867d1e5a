"""The registry as a web application: the distribution specification over a `Storage`.

Interface:
- `application(storage, users={})`: an aiohttp application for a site of its own (`/v2/` is at the root of a host).

Rules: a handler is one end-point, with the specification's URL above it. What goes wrong is raised as errors.py has it;
`_spoken` alone turns it into the specification's codes. Nothing is held in memory but a chunk: blobs are received into
files and sent with sendfile. With `users` (name to password) every request needs Basic authentication.

Source: https://github.com/opencontainers/distribution-spec/blob/main/spec.md (1.1), end-1 to end-14 in its table.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hmac
import logging
import re
from bisect import bisect_right
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from urllib.parse import quote

import msgspec
from aiohttp import ClientPayloadError, web
from aiohttp.typedefs import Middleware

from glassdock.errors import (
    Conflict,
    Corrupt,
    GlassdockError,
    InvalidParameter,
    NotFound,
    NotSupported,
    from_oserror,
)
from glassdock.oci import digest as digests
from glassdock.oci import image, reference
from glassdock.registry import manifest
from glassdock.registry.storage import Storage
from glassdock.registry.uploads import Upload

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

CHUNK = 1 << 20

_STORAGE = web.AppKey("storage", Storage)
_log = logging.getLogger(__name__)


def application(storage: Storage, users: Mapping[str, str] | None = None) -> web.Application:
    """The registry over `storage`; `users` maps names to passwords, and none means that everybody may do everything."""
    app = web.Application(middlewares=[_basic_authentication(users)] if users else [])
    app[_STORAGE] = storage
    blob, upload = "/v2/{name:.+}/blobs/{digest}", "/v2/{name:.+}/blobs/uploads/{id}"
    target = "/v2/{name:.+}/manifests/{target}"
    app.add_routes(
        # The last column is what 404 means there. GET answers HEAD too.
        web.route(method, path, _spoken(handler, unknown))
        for method, path, handler, unknown in (
            ("GET", "/v2/", base, "UNSUPPORTED"),
            ("GET", "/v2/_catalog", list_repositories, "NAME_UNKNOWN"),
            ("GET", "/v2/{name:.+}/tags/list", list_tags, "NAME_UNKNOWN"),
            ("GET", "/v2/{name:.+}/referrers/{digest}", list_referrers, "MANIFEST_UNKNOWN"),
            ("GET", target, get_manifest, "MANIFEST_UNKNOWN"),
            ("PUT", target, put_manifest, "MANIFEST_BLOB_UNKNOWN"),
            ("DELETE", target, delete_manifest, "MANIFEST_UNKNOWN"),
            ("POST", "/v2/{name:.+}/blobs/uploads/", start_upload, "BLOB_UNKNOWN"),
            ("GET", upload, upload_status, "BLOB_UPLOAD_UNKNOWN"),
            ("PATCH", upload, upload_chunk, "BLOB_UPLOAD_UNKNOWN"),
            ("PUT", upload, finish_upload, "BLOB_UPLOAD_UNKNOWN"),
            ("DELETE", upload, cancel_upload, "BLOB_UPLOAD_UNKNOWN"),
            ("GET", blob, get_blob, "BLOB_UNKNOWN"),
            ("DELETE", blob, delete_blob, "BLOB_UNKNOWN"),
        )
    )
    app.on_response_prepare.append(_headers)
    app.on_startup.append(_expire_uploads)
    return app


async def base(_request: web.Request) -> web.Response:
    """GET /v2/ (end-1): this is a registry."""
    return web.json_response({})


async def list_repositories(request: web.Request) -> web.Response:
    """GET /v2/_catalog?n=<integer>&last=<name>: Docker's addition to the specification."""
    found = await asyncio.to_thread(request.app[_STORAGE].repositories)
    page, headers = _page(request, found)
    return web.json_response({"repositories": page}, headers=headers)


# Pull


async def get_blob(request: web.Request) -> web.StreamResponse:
    """GET and HEAD /v2/<name>/blobs/<digest> (end-2), whole or a range."""
    digest = digests.parse(request.match_info["digest"])
    blob = await asyncio.to_thread(request.app[_STORAGE].blob, request.match_info["name"], digest)
    headers = {
        "Docker-Content-Digest": digest,
        "Content-Type": "application/octet-stream",
        "Cache-Control": "max-age=31536000",
    }
    if _has_already(request, digest):
        return web.Response(status=304, headers=headers)
    return web.FileResponse(blob.path, headers=headers)


async def get_manifest(request: web.Request) -> web.Response:
    """GET and HEAD /v2/<name>/manifests/<tag-or-digest> (end-3)."""
    descriptor, data = await asyncio.to_thread(
        request.app[_STORAGE].manifest, request.match_info["name"], request.match_info["target"]
    )
    headers = {"Docker-Content-Digest": descriptor.digest, "Content-Type": descriptor.media_type}
    if _has_already(request, descriptor.digest):
        return web.Response(status=304, headers=headers)
    return web.Response(body=data, headers=headers)


# Push


async def start_upload(request: web.Request) -> web.Response:
    """POST /v2/<name>/blobs/uploads/ (end-4a), ?digest= (4b), ?digest-algorithm= (4c), ?mount=&from= (end-11)."""
    storage, name, query = request.app[_STORAGE], request.match_info["name"], request.query
    if "mount" in query:
        try:
            blob = await asyncio.to_thread(storage.mount, name, digests.parse(query["mount"]), query.get("from", ""))
            return _created(f"/v2/{name}/blobs/{blob.digest}", blob.digest)
        except (NotFound, InvalidParameter):
            pass  # the specification: what cannot be mounted is uploaded instead
    digest = digests.parse(query["digest"]) if "digest" in query else ""
    algorithm = digest.partition(":")[0] or query.get("digest-algorithm", "sha256")
    upload_id = await asyncio.to_thread(storage.start_upload, name, algorithm)
    if not digest:
        return web.Response(status=202, headers=_upload_headers(name, upload_id, 0))
    return await _receive_and_finish(request, upload_id, digest)


async def upload_status(request: web.Request) -> web.Response:
    """GET <blob-push-location> (end-13): how much has arrived."""
    name, upload_id = request.match_info["name"], request.match_info["id"]
    offset = await asyncio.to_thread(request.app[_STORAGE].upload_offset, name, upload_id)
    return web.Response(status=204, headers=_upload_headers(name, upload_id, offset))


async def upload_chunk(request: web.Request) -> web.Response:
    """PATCH <blob-push-location> (end-5): a chunk with its Content-Range, or all of it as a stream without one."""
    storage, name, upload_id = request.app[_STORAGE], request.match_info["name"], request.match_info["id"]
    with contextlib.ExitStack() as turn:
        upload = await asyncio.to_thread(turn.enter_context, storage.upload(name, upload_id))
        await _receive(request, upload)
        return web.Response(status=202, headers=_upload_headers(name, upload_id, upload.offset))


async def finish_upload(request: web.Request) -> web.Response:
    """PUT <blob-push-location>?digest=<digest> (end-6), with the last chunk, or all of it, or nothing."""
    if "digest" not in request.query:
        raise InvalidParameter("the digest parameter is missing")
    return await _receive_and_finish(request, request.match_info["id"], digests.parse(request.query["digest"]))


async def cancel_upload(request: web.Request) -> web.Response:
    """DELETE <blob-push-location> (end-14)."""
    storage = request.app[_STORAGE]
    await asyncio.to_thread(storage.cancel_upload, request.match_info["name"], request.match_info["id"])
    return web.Response(status=204)


async def put_manifest(request: web.Request) -> web.Response:
    """PUT /v2/<name>/manifests/<tag-or-digest> (end-7a), <digest>?tag=1&tag=2 (end-7b)."""
    name, target = request.match_info["name"], request.match_info["target"]
    data = await _read(request, manifest.LIMIT)
    try:
        reading = await asyncio.to_thread(manifest.read, data, request.headers.get("Content-Type", ""))
    except GlassdockError as error:
        raise _refusal(400, "MANIFEST_INVALID", error.message) from error
    digest = digests.parse(target) if ":" in target else ""
    if not digest and not reference.is_tag(target):
        raise _refusal(400, "MANIFEST_INVALID", f"{target!r} is neither a tag nor a digest")
    tags = request.query.getall("tag", []) if digest else [target]
    stored = await asyncio.to_thread(request.app[_STORAGE].put_manifest, name, data, reading, digest=digest, tags=tags)
    response = _created(f"/v2/{name}/manifests/{stored}", stored)
    if reading.subject is not None:
        response.headers["OCI-Subject"] = reading.subject.digest
    if digest and tags:
        response.headers["OCI-Tag"] = ", ".join(tags)
    return response


# Discovery


async def list_tags(request: web.Request) -> web.Response:
    """GET /v2/<name>/tags/list (end-8a), ?n=<integer>&last=<tag> (end-8b)."""
    name = request.match_info["name"]
    page, headers = _page(request, await asyncio.to_thread(request.app[_STORAGE].tags, name))
    return web.json_response({"name": name, "tags": page}, headers=headers)


async def list_referrers(request: web.Request) -> web.Response:
    """GET /v2/<name>/referrers/<digest> (end-12a), ?artifactType=<type> (end-12b)."""
    subject = digests.parse(request.match_info["digest"])
    found = await asyncio.to_thread(request.app[_STORAGE].referrers, request.match_info["name"], subject)
    headers = {"Content-Type": image.OCI_INDEX}
    if wanted := request.query.get("artifactType"):
        found = [descriptor for descriptor in found if descriptor.artifact_type == wanted]
        headers["OCI-Filters-Applied"] = "artifactType"
    # An empty list must be there, so this is not an `image.Index`, which leaves out what is empty.
    body = {"schemaVersion": 2, "mediaType": image.OCI_INDEX, "manifests": found}
    return web.Response(body=msgspec.json.encode(body), headers=headers)


# Management


async def delete_manifest(request: web.Request) -> web.Response:
    """DELETE /v2/<name>/manifests/<tag-or-digest> (end-9)."""
    storage, name, target = request.app[_STORAGE], request.match_info["name"], request.match_info["target"]
    await asyncio.to_thread(storage.delete_manifest if ":" in target else storage.delete_tag, name, target)
    return web.Response(status=202)


async def delete_blob(request: web.Request) -> web.Response:
    """DELETE /v2/<name>/blobs/<digest> (end-10)."""
    storage = request.app[_STORAGE]
    digest = digests.parse(request.match_info["digest"])
    await asyncio.to_thread(storage.delete_blob, request.match_info["name"], digest)
    return web.Response(status=202)


# Below


async def _receive_and_finish(request: web.Request, upload_id: str, digest: str) -> web.Response:
    storage, name = request.app[_STORAGE], request.match_info["name"]
    with contextlib.ExitStack() as turn:
        upload = await asyncio.to_thread(turn.enter_context, storage.upload(name, upload_id))
        await _receive(request, upload)
        await asyncio.to_thread(storage.finish_upload, name, upload, digest)
    return _created(f"/v2/{name}/blobs/{digest}", digest)


async def _receive(request: web.Request, upload: Upload) -> None:
    """Append the body to the upload, if it begins where the upload ends."""
    expected = -1
    if (stated := request.headers.get("Content-Range")) is not None:
        match = re.fullmatch(r"([0-9]{1,18})-([0-9]{1,18})", stated)
        if match is None or int(match[2]) < int(match[1]):
            raise _refusal(400, "BLOB_UPLOAD_INVALID", f"Content-Range must be <first>-<last>, it is {stated!r}")
        first, expected = int(match[1]), int(match[2]) - int(match[1]) + 1
        if first != upload.offset:
            headers = _upload_headers(request.match_info["name"], upload.path.name, upload.offset)
            raise _refusal(416, "BLOB_UPLOAD_INVALID", f"the next byte is {upload.offset}, not {first}", headers)
        if request.content_length not in (None, expected):
            raise _refusal(400, "SIZE_INVALID", f"{stated} are not {request.content_length} bytes")
    received = 0
    # One chunk is hashed and written while the next one arrives.
    writing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    writing.set_result(None)
    try:
        async for chunk in _chunks(request):
            received += len(chunk)
            if 0 <= expected < received:
                raise _refusal(400, "SIZE_INVALID", f"the body is longer than its Content-Range {stated}")
            await writing
            writing = asyncio.ensure_future(asyncio.to_thread(upload.write, chunk))
    finally:
        await writing


async def _chunks(request: web.Request) -> AsyncIterator[bytes]:
    """The body in pieces of about CHUNK; what came before a broken connection is given before the error."""
    gathered: list[bytes] = []
    size = 0
    try:
        while chunk := await request.content.readany():
            gathered.append(chunk)
            size += len(chunk)
            if size >= CHUNK:
                yield b"".join(gathered)
                gathered, size = [], 0
    except (ConnectionError, web.RequestPayloadError, ClientPayloadError):
        yield b"".join(gathered)
        raise
    if gathered:
        yield b"".join(gathered)


async def _read(request: web.Request, limit: int) -> bytes:
    """A body that is small enough to be held in memory; else 413."""
    if (request.content_length or 0) <= limit:
        data = bytearray()
        async for chunk in _chunks(request):
            data += chunk
            if len(data) > limit:
                break
        else:
            return bytes(data)
    raise _refusal(413, "SIZE_INVALID", f"a manifest has at most {limit} bytes")


def _page(request: web.Request, found: Sequence[str]) -> tuple[Sequence[str], dict[str, str]]:
    """The part of a sorted list that `n` and `last` ask for, and the Link to the next."""
    last, number = request.query.get("last", ""), request.query.get("n")
    if last:
        found = found[bisect_right(found, last) :]
    if number is None:
        return found, {}
    if not re.fullmatch(r"[0-9]{1,9}", number):
        raise _refusal(400, "UNSUPPORTED", f"n is not a number: {number!r}")
    page = found[: int(number)]
    if not page or len(page) == len(found):
        return page, {}
    return page, {"Link": f'<{request.path}?n={number}&last={quote(page[-1], safe="")}>; rel="next"'}


def _has_already(request: web.Request, digest: str) -> bool:
    return any(tag.value in (digest, "*") for tag in request.if_none_match or ())


def _created(location: str, digest: str) -> web.Response:
    return web.Response(status=201, headers={"Location": location, "Docker-Content-Digest": digest})


def _upload_headers(name: str, upload_id: str, offset: int) -> dict[str, str]:
    """Where an upload goes on. Nothing received is 0-0 too, as Docker's registry says it."""
    return {
        "Location": f"/v2/{name}/blobs/uploads/{upload_id}",
        "Range": f"0-{max(offset - 1, 0)}",
        "Docker-Upload-UUID": upload_id,
    }


async def _expire_uploads(app: web.Application) -> None:
    await asyncio.to_thread(app[_STORAGE].expire_uploads)


async def _headers(request: web.Request, response: web.StreamResponse) -> None:
    """What every response carries. The content's digest is its entity tag too: the same tag, the same bytes."""
    response.headers["Docker-Distribution-Api-Version"] = "registry/2.0"
    if request.method in ("GET", "HEAD") and response.status < 400 and "Docker-Content-Digest" in response.headers:
        response.headers["ETag"] = f'"{response.headers["Docker-Content-Digest"]}"'


def _refusal(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> web.HTTPException:
    """An error as the specification writes it."""
    text = msgspec.json.encode({"errors": [{"code": code, "message": message}]}).decode()
    refusal = web.HTTPBadRequest(headers=headers, text=text, content_type="application/json")
    refusal.set_status(status)
    return refusal


def _spoken(handler: Handler, unknown: str) -> Handler:
    """The handler with its errors in the specification's words; NotFound is said with the code `unknown`."""

    async def handle(request: web.Request) -> web.StreamResponse:
        name = request.match_info.get("name")
        if name is not None and not reference.is_path(name):
            raise _refusal(400, "NAME_INVALID", f"invalid repository name {name!r}")
        try:
            return await handler(request)
        except NotFound as error:
            raise _refusal(404, unknown, error.message) from error
        except (InvalidParameter, Corrupt) as error:
            raise _refusal(400, "DIGEST_INVALID", error.message) from error
        except NotSupported as error:
            raise _refusal(400, "UNSUPPORTED", error.message) from error
        except Conflict as error:
            raise _refusal(409, "BLOB_UPLOAD_INVALID", error.message) from error
        except (ConnectionError, web.RequestPayloadError, ClientPayloadError) as error:
            # The client is gone; what it sent stays for it to resume. Nobody reads this.
            raise _refusal(400, "BLOB_UPLOAD_INVALID", "the connection broke") from error
        except OSError as error:
            failure = from_oserror(error, "the registry's storage")
            _log.error("%s %s: %s", request.method, request.path, failure.message)
            raise _refusal(failure.status, "UNKNOWN", failure.message) from error

    return handle


def _basic_authentication(users: Mapping[str, str]) -> Middleware:
    """A middleware that lets only these users in."""

    @web.middleware
    async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        with contextlib.suppress(binascii.Error, UnicodeDecodeError):
            user, _, password = base64.b64decode(token, validate=True).decode().partition(":")
            known = users.get(user, "")
            if scheme.lower() == "basic" and known and hmac.compare_digest(known.encode(), password.encode()):
                return await handler(request)
        challenge = {"WWW-Authenticate": 'Basic realm="glassdock registry"'}
        raise _refusal(401, "UNAUTHORIZED", "authentication required", challenge)

    return authenticate
