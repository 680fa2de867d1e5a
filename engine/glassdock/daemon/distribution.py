"""What a registry says of an image without fetching it: `GET /distribution/{name}/json`.

Rules: the registry is asked as for a pull, mirrors first. An index lists its platforms; a single image's are in its
configuration, which is fetched for that.

Source: https://docs.docker.com/reference/api/engine/version/v1.47/#tag/Distribution
"""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from glassdock.daemon import answers
from glassdock.daemon.answers import ENGINE
from glassdock.errors import Corrupt
from glassdock.oci.image import ImageConfig, Index, Manifest, Platform
from glassdock.oci.reference import Reference
from glassdock.registry.auth import Credentials


async def inspect(request: web.Request) -> web.StreamResponse:
    """GET /distribution/{name}/json."""
    registry = request.app[ENGINE].registry
    reference = Reference.parse(request.match_info["name"])
    credentials = Credentials.from_header(request.headers.get("X-Registry-Auth", ""))
    descriptor, document = await registry.manifest(reference, credentials=credentials)
    try:
        if "manifests" in msgspec.json.decode(document, type=dict[str, msgspec.Raw]):
            index = msgspec.json.decode(document, type=Index)
            platforms = [_platform(entry.platform) for entry in index.manifests if entry.platform]
        else:
            config = msgspec.json.decode(document, type=Manifest).config
            data = b"".join([part async for part in registry.blob(reference, config, credentials=credentials)])
            found = msgspec.json.decode(data, type=ImageConfig)
            platforms = [_platform(Platform(found.architecture, found.os, variant=found.variant))]
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise Corrupt(f"the manifest of {reference.familiar()} cannot be read: {error}") from error
    described = {"mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size}
    return answers.json({"Descriptor": described, "Platforms": platforms})


def _platform(platform: Platform) -> dict[str, Any]:
    variant = {"variant": platform.variant} if platform.variant else {}
    return {"architecture": platform.architecture, "os": platform.os, **variant}
