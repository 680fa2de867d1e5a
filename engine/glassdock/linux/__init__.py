"""The kernel's door: one wrapper a system call, named as its man page.

- `libc.py`: the funnel through which every call goes (errno to OSError, tracing). The only user of ctypes.
- `mount.py`: the classic calls and those on descriptors (fsopen, open_tree, move_mount ...).
- `openat2.py`: opening paths that somebody hostile wrote.
- `clone.py`: clone3, setns, unshare, pidfds.
- `ids.py`: which users and groups this process can name; `userns.py`: a user namespace of one's own.
- `probe.py`: what this machine allows, found out by doing (`rungs.py`, `attempts.py`, `attempt.py`, `refusals.py`).
- `prctl.py`, `capset.py`, `seccomp.py`, `bpf.py`, `process.py`: one concept each.

Rules: a wrapper makes one system call and raises OSError; flags are IntFlags; nobody outside imports ctypes.
"""
