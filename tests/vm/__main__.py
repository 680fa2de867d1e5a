"""`make vm [ARGS="pytest arguments"]`: the runtime's tests on cgroup v2, in a virtual machine of their own."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from tests.vm import boot, disk

_DEFAULT = "tests/linux tests/runtime tests/unionfs tests/network"
_LIMIT = 3000  # seconds


def main() -> int:
    """Build, boot, pass the console on; returns the tests' exit code."""
    missing = [name for name in ("qemu-system-x86_64", "busybox", "mke2fs", "apt-get") if shutil.which(name) is None]
    if missing:
        print(f"make vm needs {', '.join(missing)}: apt-get install qemu-system-x86 busybox-static e2fsprogs kmod")
        return 2
    arguments = " ".join(sys.argv[1:]) or _DEFAULT
    command = f".venv/bin/python -m pytest -p no:cacheprovider --timeout 600 {arguments}"
    code = 1
    with tempfile.TemporaryDirectory(prefix="gdvm-") as name:
        folder = Path(name)
        print("kernel …", flush=True)
        image, modules = boot.kernel(folder / "kernel")
        print("disk …", flush=True)
        tree = folder / "tree"
        disk.build(folder / "disk", modules, tree, extra={"second": boot.second(disk.CLONE, command)})
        archive = boot.initramfs(folder, modules)
        print("boot …", flush=True)
        for line in boot.boot(image, archive, folder / "disk", _LIMIT):
            print(line, end="", flush=True)
            if line.startswith("exit-code: "):
                code = int(line.split()[1])
    return code


if __name__ == "__main__":
    raise SystemExit(main())
