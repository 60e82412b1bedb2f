"""Sets up the emulated ARM64 machine: QEMU and a Python from Debian, runtimes from PyPI."""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from classkinfy_export import runtimes
from classkinfy_export.errors import MissingDependencyError
from classkinfy_export.jobs.program import run
from classkinfy_export.runtimes import avx2
from classkinfy_export.runtimes.arm64 import (
    COUNTER,
    CPUS,
    EMULATOR,
    INSTALLATION,
    LIBRARIES,
    PYTHON,
    Cpu,
)

Report = Callable[[str, int, int], None]

_DEBIAN = (
    *(
        "libc6",
        "libgcc-s1",
        "libstdc++6",
        "libexpat1",
        "zlib1g",
        "libssl3",
        "libffi8",
        "libbz2-1.0",
    ),
    *("liblzma5", "libsqlite3-0", "libuuid1", "libgomp1"),
    *(f"{name}{PYTHON}-{part}" for name, part in (("python", "minimal"), ("libpython", "minimal"))),
    f"libpython{PYTHON}-stdlib",
)
_EMULATOR = ("qemu-user", "libcapstone4", "liburing2", "libglib2.0-0")
"""What Debian itself always has is not among its libraries."""
_WHEELS = ("onnxruntime", "ai-edge-litert", "numpy", "flatbuffers")
_PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")
_FEATURES: dict[Cpu, tuple[str, str]] = {
    "cortex-a53": ("0xd03", "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"),
    "cortex-a76": (
        "0xd0b",
        "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc "
        "dcpop asimddp",
    ),
}
"""Part and features as /proc/cpuinfo has them; a feature that the core lacks ends the program."""
_CORES = 2


def install(report: Report = lambda what, done, total: None) -> dict[str, str]:
    """Download and unpack the emulated machine, anew where there is one.

    The runtimes are the versions that are installed here, so that only kernels differ.

    Args:
        report: told of progress.

    Returns:
        the packages' versions.

    Raises:
        MissingDependencyError: this is no Debian or derivative, a package is not to be had, or the
            folder holds something else.
    """
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise MissingDependencyError(
            "the ARM64 runtimes are set up from Debian's packages, and apt-get is not here",
            hint="run it on Debian 12, or in a container of it",
        )
    with INSTALLATION.renewed() as (made, versions):
        versions |= {name: found for name in _WHEELS if (found := _version(name)) is not None}
        report("emulator", 0, 4)
        _host(made)
        told = run(
            [str(made / "host" / EMULATOR), "--version"],
            made,
            {"LD_LIBRARY_PATH": str(made / "host" / LIBRARIES)},
        )
        versions["qemu"] = told.split("version ", 1)[-1].split(" ", 1)[0]
        report("ARM64 Python", 1, 4)
        _unpack(made, made / "root", _DEBIAN, foreign=True)
        report("runtimes", 2, 4)
        _wheels(made, {name: versions[name] for name in _WHEELS if name in versions})
        report("cores", 3, 4)
        for cpu in CPUS:
            _machine(made, cpu)
    report("done", 4, 4)
    return versions


def _host(made: Path) -> None:
    """Keep the emulator, its libraries, and a plugin for it where there is a C compiler."""
    _unpack(made, made / "debian", _EMULATOR, foreign=False)
    host = made / "host"
    (host / LIBRARIES).mkdir(parents=True)
    for emulator in (EMULATOR, avx2.EMULATOR):
        (made / "debian" / "usr" / "bin" / emulator).rename(host / emulator)
    for library in (made / "debian").rglob("*.so.*"):
        library.rename(host / LIBRARIES / library.name)
    shutil.rmtree(made / "debian")  # emulators of all other architectures
    if shutil.which("cc") is not None:
        source = Path(runtimes.__file__).with_name("instructions.c")
        options = ["-shared", "-fPIC", "-O2", "-o", str(host / COUNTER), str(source)]
        run(["cc", *options], made)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None  # LiteRT is an extra


def _unpack(made: Path, target: Path, packages: Sequence[str], *, foreign: bool) -> None:
    """Download Debian packages, of this architecture or of ARM64, and unpack them."""
    apt = made / "apt"
    options: list[str] = []
    if foreign:  # with lists of its own: the system's know no other architecture
        for part in ("state/lists/partial", "cache/archives/partial"):
            (apt / part).mkdir(parents=True)
        (apt / "status").touch()
        settings = {
            "Dir::State": apt / "state",
            "Dir::State::status": apt / "status",
            "Dir::Cache": apt / "cache",
            "APT::Architecture": "arm64",
            "APT::Architectures": "arm64",
            "Debug::NoLocking": "1",
        }
        options = [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]
        run(["apt-get", "--quiet", *options, "update"], made)
    downloads = made / "downloads"
    downloads.mkdir()
    run(["apt-get", "--quiet", *options, "download", *packages], downloads)
    for package in sorted(downloads.glob("*.deb")):
        run(["dpkg", "--extract", str(package), str(target)], made)
    shutil.rmtree(downloads)
    shutil.rmtree(apt, ignore_errors=True)


def _wheels(made: Path, versions: dict[str, str]) -> None:
    downloads = made / "downloads"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    platforms = [part for name in _PLATFORMS for part in ("--platform", name)]
    python = ["--python-version", PYTHON, "--implementation", "cp", "--abi", "cp311"]
    wanted = [f"{name}=={version}" for name, version in versions.items()]
    chosen = ["--only-binary=:all:", *platforms, *python, "--dest", str(downloads), *wanted]
    run([*pip, "--disable-pip-version-check", *chosen], made)
    for wheel in sorted(downloads.glob("*.whl")):
        with zipfile.ZipFile(wheel) as opened:
            opened.extractall(made / "site")
    shutil.rmtree(downloads)


def _machine(made: Path, cpu: Cpu) -> None:
    """Make a root that is the ARM64 Python's, and tells programs of one kind of core."""
    root = made / cpu
    root.mkdir()
    for entry in (made / "root").iterdir():
        (root / entry.name).symlink_to(Path("..") / "root" / entry.name)
    part, features = _FEATURES[cpu]
    core = (
        "processor\t: {}\nBogoMIPS\t: 50.00\n"
        f"Features\t: {features}\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
        f"CPU variant\t: 0x0\nCPU part\t: {part}\nCPU revision\t: 1\n\n"
    )
    (root / "proc").mkdir()
    info = "".join(core.format(number) for number in range(_CORES))
    (root / "proc" / "cpuinfo").write_text(info, encoding="utf-8")
    system = root / "sys" / "devices" / "system" / "cpu"
    system.mkdir(parents=True)
    for name in ("possible", "present", "online"):
        (system / name).write_text(f"0-{_CORES - 1}\n", encoding="utf-8")
