"""Images: layers and documents, addressed by what they contain.

Vocabulary
- *blob*: bytes under their digest: a config, a manifest, a layer as it travels.
- *diff id*: the digest of a layer's uncompressed tar. *chain id*: of a layer and all below it (see `unionfs`).
- *id*: the digest of the config, which names the diff ids, so that an image's id covers all that is in it.
- *tag*: a name that points to an id and can be moved; *repository digest*: a name that cannot.

Reading order:

1. `model.py`: the values. `store.py`: which images there are; `blobs.py`: where their bytes are; `removal.py`: `rmi`.
2. `tar.py`, `compression.py`: the format that layers travel in.
3. `layer.py`, `inside.py`, `below.py`: a tar becomes a folder; `pack.py`: a folder becomes a tar; `changes.py`: what
   a layer did.
4. `pull.py`, `push.py`: from and to a registry; `platforms.py`: which of an index's images; `progress.py`: the lines.
5. `course.py`: the course's own images, from this machine's files; `elf.py`: which libraries a program needs.
"""
