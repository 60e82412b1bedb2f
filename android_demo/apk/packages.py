"""What the smoke build takes besides the JVM's tools: Debian's Android tools.

``aapt2``, ``zipalign``, ``apksigner`` and ``proguard`` are installed with apt. The rest is fetched,
pinned and checked, into the folder of ``jvm/toolchain.py``. Two packages left Debian after release
11 and are taken from there, or from the folder that ``CLASSKINFY_ANDROID_DEBS`` names.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "jvm"))

from toolchain import DebianPackage

from classkinfy_export.errors import MissingDependencyError

DEBS = "CLASSKINFY_ANDROID_DEBS"
PROGRAMS = {
    "aapt2": "aapt",
    "zipalign": "zipalign",
    "apksigner": "apksigner",
    "proguard": "proguard-cli",
    "javac": "default-jdk-headless",
    "keytool": "default-jdk-headless",
}
"""Programs and the Debian packages that have them."""


def mirror() -> str:
    """Return where this system's apt has Debian's packages from.

    Raises:
        MissingDependencyError: it has none.
    """
    asked = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Origin: Debian"]
    ran = subprocess.run(asked, capture_output=True, text=True, check=False)
    found = [uri for uri in ran.stdout.split() if "security" not in uri]
    if not found:
        raise MissingDependencyError("apt names no mirror of Debian", hint=f"set {DEBS}")
    return found[0]


class FormerDebianPackage(DebianPackage):
    """A package of Debian 11."""

    def command(self, scratch: Path) -> list[str]:
        """Return a copy's command, or apt's with lists of its own: the system's stay as is."""
        folder = os.environ.get(DEBS)
        if folder:
            file = f"{self.name}_{self.version.partition(':')[2] or self.version}_all.deb"
            return ["cp", str(Path(folder).expanduser() / file), str(scratch)]
        apt = scratch / "apt"
        (apt / "lists/partial").mkdir(parents=True)
        (apt / "cache/archives/partial").mkdir(parents=True)
        source = apt / "sources.list"
        source.write_text(f"deb {mirror()} bullseye main\n")
        options = {
            "Dir::Etc::sourcelist": source,
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::State::lists": apt / "lists",
            "Dir::Cache": apt / "cache",
        }
        get = shlex.join(
            ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]
        )
        return ["sh", "-c", f"{get} update && {get} download {self.name}={self.version}"]


ANDROID_JAR = FormerDebianPackage(  # stubs of API 23
    "libandroid-23-java",
    "6.0.1+r72-6",
    "8af1b6df556971dda0a6da3536ea526a838e0c363afcdd454213d8bce94793e3",
)
DX = FormerDebianPackage(
    "dalvik-exchange",
    "10.0.0+r36-1",
    "8fc128db7c27253d963eb9b33de79b197162a4749d2ba69019b2fd0664cbd7fe",
)
ASM = DebianPackage(
    "libasm-java", "9.4-1", "df86dcfa204fd084b4bdec98ded755905614066bafee012ac82fcc94d8958079"
)
FRAMEWORK = DebianPackage(  # resources of API 29
    "android-framework-res",
    "1:10.0.0+r36-10",
    "267dad38b2e01b2705bd106023cfb5e6410175ebe35c60f3186eef521248bc6b",
)


def require_programs() -> None:
    """Raise ``MissingDependencyError``, naming the packages, unless all are installed."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        packages = " ".join(sorted({PROGRAMS[name] for name in missing}))
        raise MissingDependencyError(
            f"the smoke build lacks {', '.join(missing)}",
            hint=f"apt-get install {packages}, on Debian 12",
        )
