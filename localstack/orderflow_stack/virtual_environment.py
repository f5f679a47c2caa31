"""Keeps virtual environments equal to their requirements, and runs the scripts in .local/venv."""

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from orderflow_stack.errors import StackError
from orderflow_stack.paths import REPOSITORY

PIP_CACHE = REPOSITORY / ".cache" / "pip"


@dataclass(frozen=True)
class Venv:
    """A virtual environment in `directory`, made from a file of pinned requirements."""

    directory: Path
    requirements: Path
    contents: str

    def program(self, name: str) -> Path:
        """A program that the requirements install."""
        return self.directory / "bin" / name

    def current(self) -> bool:
        marker = self._marker()
        exists = self.program("python").exists() and marker.is_file()
        return exists and marker.read_text() == self._wanted()

    def ensure(self, python: str) -> None:
        """Makes it with that Python, unless it is there and current."""
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        # Two stacks may be started at the same time; the second waits for the first one's venv.
        with open(self.directory.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self.current():
                self._make(python)

    def _make(self, python: str) -> None:
        place = self.directory.relative_to(REPOSITORY)
        print(f"Installing {self.contents} into {place} (once) ...", flush=True)
        shutil.rmtree(self.directory, ignore_errors=True)
        _run([python, "-m", "venv", str(self.directory)])
        # No index is named: pip takes the one that its user has configured.
        pip = [str(self.program("python")), "-m", "pip", "--disable-pip-version-check", "--quiet"]
        # Nothing is written outside the checkout, so pip's cache is in it, too.
        pip.append(f"--cache-dir={PIP_CACHE}")
        _run([*pip, "install", "--require-hashes", "-r", str(self.requirements)])
        self._marker().write_text(self._wanted())

    def _wanted(self) -> str:
        return hashlib.sha256(self.requirements.read_bytes()).hexdigest()

    def _marker(self) -> Path:
        return self.directory / "requirements.sha256"


OWN = Venv(
    REPOSITORY / ".local" / "venv", Path(__file__).with_name("requirements.txt"), "the emulator and the AWS CLI"
)


def program(name: str) -> Path:
    """A program in .local/venv."""
    return OWN.program(name)


def base_python() -> str:
    """The Python that this one is a virtual environment of, or this one."""
    # Not sys.executable: while a venv is made anew, that is the one just removed.
    return getattr(sys, "_base_executable", None) or sys.executable


def enter() -> None:
    """Returns at once inside the venv; elsewhere starts this command again in it."""
    if Path(sys.prefix).resolve() == OWN.directory.resolve() and OWN.current():
        return
    if importlib.util.find_spec("ensurepip") is None:
        raise StackError(
            f"{sys.executable} cannot make virtual environments: its ensurepip module is missing. "
            "On Debian and Ubuntu, install the package python3-venv."
        )
    OWN.ensure(base_python())
    python = str(program("python"))
    os.execv(python, [python, *sys.argv])


def _run(command: list[str]) -> None:
    if subprocess.run(command).returncode != 0:
        raise StackError(f"this failed: {' '.join(command)}")
