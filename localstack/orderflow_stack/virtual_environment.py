"""Makes virtual environments from pinned requirements, and runs the local stack in its own (.local/venv).

In: a file of requirements with hashes. Out: a directory with their programs.
Guarantees: an environment is made anew when its requirements have changed; two processes that want the same one
make it once; nothing is written outside the checkout.
"""

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
from orderflow_stack.paths import CACHE_DIRECTORY, LOCAL_DIRECTORY, REPOSITORY

PIP_CACHE = CACHE_DIRECTORY / "pip"


@dataclass(frozen=True)
class VirtualEnvironment:
    """A virtual environment in `directory`, made from a file of pinned requirements.

    `contents` says what is in it, for the message while it is installed.
    """

    directory: Path
    requirements: Path
    contents: str
    # Whether the file names the hash of each package.
    has_hashes: bool = True

    def program(self, name: str) -> Path:
        """The path of a program that the requirements install."""
        return self.directory / "bin" / name

    def is_current(self) -> bool:
        marker = self._marker()
        exists = self.program("python").exists() and marker.is_file()
        return exists and marker.read_text() == self._describe_requirements()

    def install_if_outdated(self, python: str) -> None:
        """Makes it with that Python, unless it is there and current."""
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        # Two stacks may be started at the same time; the second waits for what the first installs.
        with self.directory.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self.is_current():
                self._install(python)

    def _install(self, python: str) -> None:
        if python == find_base_python():
            _require_ensurepip()
        place = self.directory.relative_to(REPOSITORY)
        print(f"Installing {self.contents} into {place} (once) ...", flush=True)
        shutil.rmtree(self.directory, ignore_errors=True)
        _run([python, "-m", "venv", str(self.directory)])
        # No index is named: pip takes the one that its user has configured.
        pip = [str(self.program("python")), "-m", "pip", "--disable-pip-version-check", "--quiet"]
        # Nothing is written outside the checkout, so pip's cache is in it, too.
        pip.append(f"--cache-dir={PIP_CACHE}")
        hashes = ["--require-hashes"] if self.has_hashes else []
        _run([*pip, "install", *hashes, "-r", str(self.requirements)])
        self._marker().write_text(self._describe_requirements())

    def _describe_requirements(self) -> str:
        return hashlib.sha256(self.requirements.read_bytes()).hexdigest()

    def _marker(self) -> Path:
        return self.directory / "requirements.sha256"


STACK_ENVIRONMENT = VirtualEnvironment(
    LOCAL_DIRECTORY / "venv", Path(__file__).with_name("requirements.txt"), "the emulator and the AWS CLI"
)


def enter_stack_environment() -> None:
    """Returns at once inside .local/venv; elsewhere starts this command again in it."""
    is_inside = Path(sys.prefix).resolve() == STACK_ENVIRONMENT.directory.resolve()
    if is_inside and STACK_ENVIRONMENT.is_current():
        return
    STACK_ENVIRONMENT.install_if_outdated(find_base_python())
    python = str(STACK_ENVIRONMENT.program("python"))
    os.execv(python, [python, *sys.argv])


def find_base_python() -> str:
    """The Python that this one is a virtual environment of, or this one."""
    # Not sys.executable: while a virtual environment is made anew, that is the one just removed.
    return getattr(sys, "_base_executable", None) or sys.executable


def _require_ensurepip() -> None:
    if importlib.util.find_spec("ensurepip") is None:
        raise StackError(
            f"{sys.executable} cannot make virtual environments: its ensurepip module is missing. "
            "On Debian and Ubuntu, install the package python3-venv."
        )


def _run(command: list[str]) -> None:
    if subprocess.run(command, check=False).returncode != 0:
        raise StackError(f"this failed: {' '.join(command)}")
