"""Hosts for tests: network namespaces with processes, mounts, /tmp, HOME, /dev/shm, /run and an sshd of their own.

A host is a shell that is process 1 of a PID namespace; when it ends, so does everything on the host. The hosts hang on
a switch in a namespace of its own, so that no traffic and no address reaches the machine that runs the tests.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

UNSHARE = ("unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc")
NEEDED = ("ip", "setpriv", "unshare", "nsenter", "sshd", "ssh", "ssh-keygen", "rsync")
DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")
COVERED = ("/tmp", "/root", "/run", "/dev/shm")
"""What each host has of its own; what the interpreter and the project need of it is bound back in."""

PROJECT = Path(__file__).parents[2]
"""What the hosts run: the project that is being tested, installed or not."""

INIT = r"""
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /mnt
mkdir -p /mnt/share /mnt/keep
mount --bind {share} /mnt/share
i=0
for path in {keep}; do
  mkdir /mnt/keep/$i; mount --bind "$path" /mnt/keep/$i; i=$((i+1))
done
for path in {covered}; do mount -t tmpfs -o mode=1777 tmpfs $path; done
chmod 700 /root
i=0
for path in {keep}; do
  mkdir -p "$path"; mount --bind /mnt/keep/$i "$path"; i=$((i+1))
done
hostname {name}
mkdir -p /run/sshd /root/.ssh /root/fusion/bin
for tool in python ray; do cp /mnt/share/$tool /root/fusion/bin/; done
cp /mnt/share/bashrc /root/.bashrc
cp /mnt/share/key /root/.ssh/id_ed25519; chmod 600 /root/.ssh/id_ed25519
export HOME=/root
cd /root
touch /mnt/ready
exec $(command -v sshd) -D -e -f /mnt/share/sshd_config
"""


def missing_rights() -> str:
    """Why such hosts cannot be made here; empty where they can."""
    if os.name != "posix" or os.geteuid() != 0:
        return "needs root"
    absent = [tool for tool in NEEDED if shutil.which(tool) is None]
    if absent:
        return f"needs {', '.join(absent)} (Debian: apt-get install openssh-server iproute2 rsync)"
    name = f"fusion-{os.getpid()}-probe"
    inside = ["ip", "netns", "exec", name]
    tries = [
        ["ip", "netns", "add", name],
        ["ip", "-n", name, "link", "add", "bridge0", "type", "bridge"],
        ["ip", "-n", name, "link", "add", "one", "type", "veth", "peer", "name", "other"],
        [*inside, *UNSHARE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"],
    ]
    try:
        for command in tries:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                return f"may not make namespaces ({' '.join(command)}: {done.stderr.strip()})"
    finally:
        subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
    return ""


class Hosts:
    """Named hosts on one switch; a context manager that leaves nothing behind."""

    def __init__(self, names: list[str], share: Path) -> None:
        """`share` is a folder that all hosts see, read by their set-up alone."""
        self.names = names
        self.share = share
        self._prefix = f"fusion-{os.getpid()}"
        self._inits: dict[str, subprocess.Popen[bytes]] = {}
        self._namespaces: list[str] = []

    def address(self, name: str) -> str:
        """The host's address on the switch."""
        return f"10.99.0.{self.names.index(name) + 1}"

    def __enter__(self) -> Hosts:
        try:
            self._write_share()
            self._namespace("switch")
            self._ip("switch", "link", "add", "switch", "type", "bridge")
            self._ip("switch", "link", "set", "switch", "up")
            for name in self.names:
                self._plug_in(name)
                self._boot(name)
            for name in self.names:
                self.wait(lambda name=name: (self.root(name) / "mnt" / "ready").exists(), f"{name} to boot", 60)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for init in self._inits.values():
            init.kill()  # unshare --kill-child: process 1 goes with it, and with that all on the host
        for init in self._inits.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                init.wait(30)
        for name in self._namespaces:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
        self._inits, self._namespaces = {}, []

    def run(self, name: str, command: str, *, timeout: float, check: bool = True) -> str:
        """Run a shell command on a host; returns what it printed."""
        done = subprocess.run(
            self.command(name, command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=timeout, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if check and done.returncode != 0:
            raise AssertionError(f"on {name}: {command}\nended with {done.returncode}:\n{done.stdout[-6000:]}")
        return done.stdout

    def command(self, name: str, command: str) -> list[str]:
        """The command line that runs a shell command on a host."""
        environment = {
            "HOME": "/root",
            "PATH": f"/root/fusion/bin:{os.environ['PATH']}",
            "RAY_AUTH_MODE": "token",
            "RAY_UP_enable_autoscaler_v2": "0",
            "RAY_worker_niceness": "0",
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(PROJECT),
        }
        settings = [f"{key}={value}" for key, value in environment.items()]
        inside = ["--net", "--mount", "--uts", "--ipc", "--pid"]
        enter = ["nsenter", "--target", str(self.init(name)), *inside]
        return [*enter, "env", "-i", *settings, "bash", "-c", f"cd /root; {command}"]

    def init(self, name: str) -> int:
        """The host's process 1, as this machine counts."""
        children = Path(f"/proc/{self._inits[name].pid}/task/{self._inits[name].pid}/children").read_text().split()
        return int(children[0])

    def root(self, name: str) -> Path:
        """The host's file system, seen from here."""
        try:
            return Path(f"/proc/{self.init(name)}/root")
        except (IndexError, FileNotFoundError):
            return Path("/nonexistent")

    def processes(self, name: str, word: str) -> list[int]:
        """Processes of a host whose command line holds `word`, as this machine counts."""
        mine = os.readlink(f"/proc/{self.init(name)}/ns/pid")
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and os.readlink(entry / "ns" / "pid") == mine:
                    line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    if word in line:
                        found.append(int(entry.name))
        return found

    def kill(self, name: str, word: str) -> None:
        """kill -9 whatever `processes` finds: processes of that host alone."""
        for process in self.processes(name, word):
            os.kill(process, signal.SIGKILL)

    @staticmethod
    def wait(reached: Callable[[], object], what: str, seconds: float) -> None:
        """Wait until `reached()`; AssertionError, saying what was waited for, after `seconds`."""
        deadline = time.monotonic() + seconds
        while not reached():
            assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
            time.sleep(0.2)

    def _namespace(self, name: str) -> None:
        full = f"{self._prefix}-{name}"
        subprocess.run(["ip", "netns", "add", full], check=True)
        self._namespaces.append(full)
        self._ip(name, "link", "set", "lo", "up")

    def _ip(self, name: str, *arguments: str) -> None:
        subprocess.run(["ip", "-n", f"{self._prefix}-{name}", *arguments], check=True)

    def _plug_in(self, name: str) -> None:
        self._namespace(name)
        port = f"port{self.names.index(name)}"
        peer = ["peer", "name", port, "netns", f"{self._prefix}-switch"]
        self._ip(name, "link", "add", "eth0", "type", "veth", *peer)
        self._ip("switch", "link", "set", port, "master", "switch", "up")
        self._ip(name, "address", "add", f"{self.address(name)}/24", "dev", "eth0")
        self._ip(name, "link", "set", "eth0", "up")
        self._ip(name, "route", "add", "default", "dev", "eth0")  # Ray finds its address by looking for a way out

    def _boot(self, name: str) -> None:
        script = INIT.format(
            share=shlex.quote(str(self.share)),
            keep=" ".join(shlex.quote(path) for path in _kept()),
            covered=" ".join(COVERED),
            name=name,
        )
        with (self.share / f"{name}.log").open("wb") as log:
            self._inits[name] = subprocess.Popen(
                [*DIES_WITH_US, "ip", "netns", "exec", f"{self._prefix}-{name}", *UNSHARE, "bash", "-c", script],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def _write_share(self) -> None:
        self.share.mkdir(parents=True, exist_ok=True)
        for key in ("key", "host_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.share / key)], check=True)
        shutil.copy(self.share / "key.pub", self.share / "authorized_keys")
        (self.share / "sshd_config").write_text(
            "Port 22\nUsePAM no\nStrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\nMaxStartups 100\n"
            "PidFile none\nHostKey /mnt/share/host_key\nAuthorizedKeysFile /mnt/share/authorized_keys\n"
            "MaxSessions 100\nPrintMotd no\n"
        )
        python = shlex.quote(sys.executable)
        (self.share / "python").write_text(f'#!/bin/sh\nexec {python} "$@"\n')
        (self.share / "ray").write_text(f'#!/bin/sh\nexec {python} -m ray.scripts.scripts "$@"\n')
        for tool in ("python", "ray"):
            (self.share / tool).chmod(0o755)
        (self.share / "bashrc").write_text(
            f"export PATH=/root/fusion/bin:{os.environ['PATH']} RAY_AUTH_MODE=token OMP_NUM_THREADS=1\n"
            "export RAY_worker_niceness=0\n"
            # not in place of what stands there: Ray starts workers by a shell that reads this file, and what a runtime
            # environment ships is found by PYTHONPATH
            f"export PYTHONPATH=${{PYTHONPATH:+$PYTHONPATH:}}{PROJECT}\n"
        )


def _kept() -> list[str]:
    """Folders of the interpreter and the project that a host's own file systems would hide, the outermost alone."""
    wanted = {Path(p).resolve() for p in [*sys.path, sys.prefix, sys.base_prefix, PROJECT] if p and Path(p).is_dir()}
    wanted -= {Path(covered) for covered in COVERED}
    hidden = sorted(p for p in wanted if any(p.is_relative_to(c) for c in COVERED))
    return [str(p) for p in hidden if not any(p != o and p.is_relative_to(o) for o in hidden)]
