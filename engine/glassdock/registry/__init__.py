"""The registry, both sides: where images are kept for others, and how an engine asks for them.

A registry is a store of blobs named by their digest, and of manifests named by digest or tag, behind HTTP. A pull is
two kinds of GET: the manifest (`/v2/NAME/manifests/TAG`), then each blob that it lists (`/v2/NAME/blobs/DIGEST`).
A push is the same backwards: blobs first, the manifest last, so that nobody ever sees half an image.

- `server.py`: the HTTP side, a route table on one screen; `storage.py`: what lies behind it on disk,
  `uploads.py`: blobs on their way in, `garbage.py`: what nobody needs any more.
- `client.py`: what the engine uses; mirrors first, `docker.io` is the course's registry before it is Docker Hub.
- `receiving.py`, `sending.py`: a manifest or blob from a registry, a blob to it; `transport.py`: one HTTP request, with
  redirects, retries and the sentence for what went wrong.
- `auth.py`: credentials, and the challenge by which a registry asks for them (Basic, Bearer tokens).
- `manifest.py`: what a manifest is and refers to; server and client refuse the same confusions.

Rules: nothing is believed: digests and sizes are checked on both sides, while the bytes pass, before they are used.
Source: https://github.com/opencontainers/distribution-spec/blob/main/spec.md (1.1)
"""
