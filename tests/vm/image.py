"""The disk that every virtual machine starts from, and its kernel."""

import struct
from pathlib import Path

from tests.lab.cache import cached, digest
from tests.lab.rootfs import LEFT_OUT, STORE, SUITE, bootstrap, call, need, rootfs

HERE = Path(__file__).parent
DISK, KERNEL = "disk.img", "vmlinux"
SIZE = "2G"  # a sparse file: most of it is not there
PACKAGES = (
    *("systemd-sysv", "udev", "dbus", "kmod", "linux-image-cloud-amd64", "procps"),
    # what the plugin's package depends on: there is no network that it could be fetched from
    *("podman", "netavark", "aardvark-dns", "crun", "openvswitch-switch", "nftables", "python3"),
    *("python3-pyroute2", "python3-ovsdbapp", "python3-jeepney"),
    # the tester's tools
    *("iproute2", "iputils-ping", "ethtool", "curl", "busybox-static", "bash-completion", "iperf3"),
)


def image() -> Path:
    """The cached directory with disk and kernel, built first if need be."""
    store = rootfs() / STORE
    scripts = [(HERE / name).read_bytes() for name in ("customize.sh", "agent.py")]
    key = digest(str(store), SUITE, SIZE, *PACKAGES, *LEFT_OUT, *scripts)
    note = "building the virtual machines' disk, once per machine, about two minutes …"
    return cached("vm", key, note, lambda new: _build(new, store))


def _build(new: Path, store: Path) -> None:
    need("zstd", "zstd")
    root = new.parent / "root"
    bootstrap(root, PACKAGES, HERE / "customize.sh")
    call("cp", "-a", str(store), str(root / STORE))
    agent = root / "usr/local/sbin/agent"
    agent.write_bytes((HERE / "agent.py").read_bytes())
    agent.chmod(0o755)
    (kernel,) = root.glob("boot/vmlinuz-*")
    packed = new.parent / "vmlinux.zst"
    packed.write_bytes(_payload(kernel.read_bytes()))
    call("zstd", "-q", "-d", str(packed), "-o", str(new / KERNEL))
    kernel.unlink()
    call("mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", "-d", str(root), str(new / DISK), SIZE)


def _payload(bzimage: bytes) -> bytes:
    """The compressed kernel in it. QEMU starts an uncompressed one as well; emulated, unpacking takes ten seconds."""
    # Documentation/arch/x86/boot.rst: setup_sects; payload_offset, payload_length. The last four bytes are the size.
    offset, length = struct.unpack_from("<II", bzimage, 0x248)
    start = (bzimage[0x1F1] + 1) * 512 + offset
    return bzimage[start : start + length - 4]
