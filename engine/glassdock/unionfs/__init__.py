"""The union filesystem: read-only layers stacked into one root, and a writable one on top for each container.

Vocabulary
- *layer*: a folder with what one instruction of a build added, changed or deleted. Deletions are whiteouts: a
  character device 0:0 hides a name below it, the xattr `trusted.overlay.opaque` hides all of a directory below it
  (in a user namespace `user.overlay.opaque`).
- *chain id*: the name of a layer **together with everything below it**, a digest over the diff ids of the stack. Two
  images that begin with the same layers share these chains and with them the folders.
- *snapshot*: the writable layer of one container or one build step, named by a key (the container's id).
- *lower*, *upper*, *work*: overlayfs's words for the read-only folders, the writable one, and its scratch folder.
- *mount*: a value that says how to get the root; whoever wants the root applies it, in a mount namespace of its own.

Life cycle
    unpacking(chain, parent) ── filled, then committed at once ──> chain  ── remove ──> gone
    chain ── prepare(key, chain) ──> snapshot  ── commit(key, chain) ──> chain (no copy)
                                     snapshot  ── remove(key) ──> gone
    chain ── view(chain) ──> a read-only mount

A chain is there whole or not at all: it is filled under `tmp/` and renamed. What a killed daemon left under `tmp/`,
and snapshots that no container owns any more, go with `repair()` at the next start.

An example: one layer, a writable layer on top, and what is to be mounted.

    >>> import os, tempfile
    >>> from pathlib import Path
    >>> from glassdock.paths import Paths
    >>> from glassdock.unionfs.overlay import Snapshotter
    >>> state = tempfile.TemporaryDirectory()
    >>> snapshots = Snapshotter(Paths.of(Path(state.name)))
    >>> base = "sha256:" + "a" * 64
    >>> with snapshots.unpacking(base, None) as folder:
    ...     _ = (folder / "hello").write_text("from the image")
    >>> mount = snapshots.prepare("container1", base)
    >>> [os.path.relpath(lower, state.name) for lower in mount.lowers] == [f"layers/chains/{'a' * 64}/fs"]
    True
    >>> os.path.relpath(mount.upper, state.name)
    'layers/active/container1/fs'
    >>> snapshots.remove("container1")
    >>> state.cleanup()

Reading order: `mounts.py` (the value), `overlay.py` (the snapshotter), `drivers.py` and `copy.py` (the kernel's way and
ours), `marks.py` (what hides), `ownership.py` (whose a file is where ids have no name), `trees.py` and `contents.py`
(walking, removing, copying what a container wrote). The contract follows containerd's `core/snapshots/snapshotter.go`.
"""
