"""Keeps .local/venv equal to requirements.txt and runs the scripts in it."""

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from errors import StackError

REPOSITORY = Path(__file__).resolve().parent.parent
REQUIREMENTS = Path(__file__).resolve().parent / "requirements.txt"
VENV = REPOSITORY / ".local" / "venv"


def program(name: str) -> Path:
    """A program that the requirements install."""
    return VENV / "bin" / name


def enter() -> None:
    """Returns at once inside the venv; elsewhere starts this command again in it."""
    if Path(sys.prefix).resolve() == VENV.resolve() and _current():
        return
    _ensure()
    python = str(program("python"))
    os.execv(python, [python, *sys.argv])


def _current() -> bool:
    marker = _marker()
    return program("python").exists() and marker.is_file() and marker.read_text() == _wanted()


def _wanted() -> str:
    return hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()


def _marker() -> Path:
    return VENV / "requirements.sha256"


def _ensure() -> None:
    VENV.parent.mkdir(parents=True, exist_ok=True)
    # Two stacks may be started at the same time; the second waits for the first one's venv.
    with open(VENV.parent / "venv.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _current():
            _make()


def _make() -> None:
    if importlib.util.find_spec("ensurepip") is None:
        raise StackError(
            f"{sys.executable} cannot make virtual environments: its ensurepip module is missing. "
            "On Debian and Ubuntu, install the package python3-venv."
        )
    print("Installing the emulator and the AWS CLI into .local/venv (once) ...", flush=True)
    shutil.rmtree(VENV, ignore_errors=True)
    # Not sys.executable: while a venv is made anew, that is the one just removed.
    python = getattr(sys, "_base_executable", None) or sys.executable
    _run([python, "-m", "venv", str(VENV)])
    # No index is named: pip takes the one that its user has configured.
    pip = [str(program("python")), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    _run([*pip, "install", "--require-hashes", "-r", str(REQUIREMENTS)])
    _marker().write_text(_wanted())


def _run(command: list[str]) -> None:
    if subprocess.run(command).returncode != 0:
        raise StackError(f"this failed: {' '.join(command)}")
