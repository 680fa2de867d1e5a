"""The Open Container Initiative's documents as typed values: references, digests, image and runtime specs.

- `digest.py`: content addresses.
- `reference.py`: the names of images, and what they are short for.
- `image.py`: descriptors, manifests, indexes, image configs (image-spec 1.1, and Docker's schema 2).
- `runtime.py`: the bundle's config.json (runtime-spec 1.2).

Rules: values only. Nothing here opens a file or a socket.
"""
