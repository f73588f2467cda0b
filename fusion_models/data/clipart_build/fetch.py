"""The pictures' Debian package, through apt's own client."""

from __future__ import annotations

import subprocess
from pathlib import Path

PACKAGE = "openclipart-svg"


def fetch_pictures(work: Path) -> Path:
    """Download and unpack `openclipart-svg` under `work`; the folder of SVG files.

    Needs a Debian machine with a fresh index (`apt-get update`). Raises RuntimeError where the download leaves no
    package, subprocess.CalledProcessError where a command fails.
    """
    work.mkdir(parents=True, exist_ok=True)
    if not list(work.glob(f"{PACKAGE}_*.deb")):
        subprocess.run(["apt-get", "download", PACKAGE], cwd=work, check=True)
    found = sorted(work.glob(f"{PACKAGE}_*.deb"))
    if not found:
        raise RuntimeError(f"apt-get download left no {PACKAGE}_*.deb in {work}")
    if not (work / "deb").exists():
        subprocess.run(["dpkg-deb", "-x", str(found[0]), str(work / "deb")], check=True)
    return work / "deb/usr/share/openclipart/svg"
