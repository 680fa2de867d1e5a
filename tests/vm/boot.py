"""Booting: Debian's cloud kernel, an initramfs that finds the disk, qemu with software emulation.

Interface: `kernel(folder)`: kernel image and modules from Debian's package; `boot(...)`: run a command inside.

Rules: nothing is installed; the package is downloaded by apt and unpacked. The console is the machine's output.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

_FIRST = """#!/bin/sh
busybox mount -t devtmpfs dev /dev
for module in {modules}; do busybox insmod /$module; done
until [ -b /dev/vda ]; do busybox usleep 50000; done
busybox mount -t ext4 /dev/vda /disk
busybox mount -t devtmpfs dev /disk/dev
busybox mount -t proc proc /disk/proc
busybox mount -t sysfs sys /disk/sys
busybox mount -t tmpfs tmp /disk/tmp
busybox mount -t tmpfs run /disk/run
exec busybox switch_root /disk /bin/sh /second
"""
_SECOND = """mkdir -p /dev/pts /dev/shm
mount -t devpts pts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t cgroup2 cgroup /sys/fs/cgroup
ln -s /proc/self/fd /dev/fd
ip link set lo up
for module in overlay veth bridge nf_tables nft_chain_nat nft_masq; do modprobe $module; done
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb
cd {clone}
{command}
echo "exit-code: $?"
poweroff -f
"""
_DISK = ("virtio_pci", "virtio_blk")  # modules without which there is no disk to load the others from


def kernel(folder: Path) -> tuple[Path, Path]:
    """The kernel image and the folder of its modules, with their dependencies worked out."""
    folder.mkdir(parents=True, exist_ok=True)
    depends = subprocess.run(
        ["apt-cache", "depends", "linux-image-cloud-amd64"], check=True, capture_output=True, text=True
    ).stdout
    found = re.search(r"Depends: (linux-image-\S+)", depends)
    if found is None:
        raise SystemExit("Debian's cloud kernel is not to be had here: run apt-get update first.")
    subprocess.run(["apt-get", "download", "-q", found[1]], check=True, cwd=folder, stderr=subprocess.DEVNULL)
    (package,) = folder.glob("linux-image-*.deb")
    subprocess.run(["dpkg", "-x", package, folder / "x"], check=True)
    (image,) = (folder / "x/boot").glob("vmlinuz-*")
    (modules,) = (folder / "x/lib/modules").iterdir()
    subprocess.run(["/sbin/depmod", "-b", folder / "x", modules.name], check=True)
    return image, modules


def initramfs(folder: Path, modules: Path) -> Path:
    """A first root of busybox and the modules of the disk."""
    root = folder / "first"
    for name in ("bin", "dev", "disk"):
        (root / name).mkdir(parents=True)
    busybox = shutil.which("busybox") or "busybox"
    shutil.copy2(busybox, root / "bin/busybox")
    (root / "bin/sh").symlink_to("busybox")
    names = _in_order(modules)
    for name in names:
        shutil.copy2(modules / name, root / Path(name).name)
    init = root / "init"
    init.write_text(_FIRST.format(modules=" ".join(Path(name).name for name in names)))
    init.chmod(0o755)
    listed = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    packed = subprocess.run(
        [busybox, "cpio", "-o", "-H", "newc"], input=listed.encode(), cwd=root, check=True, capture_output=True
    ).stdout
    archive = folder / "initramfs"
    archive.write_bytes(packed)
    return archive


def _in_order(modules: Path) -> list[str]:
    """The modules of the disk with what they depend on, each after those it needs."""
    found: list[str] = []
    for line in (modules / "modules.dep").read_text().splitlines():
        name, _, needs = line.partition(":")
        if Path(name).stem in _DISK:
            found += [module for module in (*reversed(needs.split()), name) if module not in found]
    return found


def second(clone: Path, command: str) -> str:
    """The script that runs in the disk: what a distribution's init would have set up, then the command."""
    return _SECOND.format(clone=clone, command=command)


def boot(image: Path, archive: Path, disk: Path, seconds: int) -> Iterator[str]:
    """Boot and yield the console's lines; the machine switches itself off."""
    command = [
        "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2048", "-nographic",
        "-no-reboot", "-nic", "none", "-kernel", str(image), "-initrd", str(archive),
        "-append", "console=ttyS0 quiet panic=-1 systemd.unified_cgroup_hierarchy=1",
        "-drive", f"file={disk},if=virtio,format=raw",
    ]  # fmt: skip
    with subprocess.Popen(
        ["timeout", str(seconds), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as machine:
        assert machine.stdout is not None
        yield from machine.stdout
