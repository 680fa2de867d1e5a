"""A small virtual machine with cgroup v2, for what this machine's own layout cannot show: `make vm`.

- `disk.py`: a file system with the interpreter, the virtual environment and this clone.
- `boot.py`: Debian's cloud kernel, an initramfs of busybox, qemu.
- `__main__.py`: builds, boots, prints what the tests said, ends with their exit code.
"""
