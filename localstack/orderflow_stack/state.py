"""The directory in which one local stack keeps what it has to remember.

In: the directory (--state; by default .local/stack). Out: its paths, and small JSON records in it.
Guarantees: a record is there whole or not at all; `lock_exclusively` keeps two commands from changing one stack.
"""

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orderflow_stack.paths import LOCAL_DIRECTORY


class State:
    """Paths and small JSON records under one directory."""

    def __init__(self, directory: Path | None) -> None:
        default = LOCAL_DIRECTORY / "stack"
        self.directory = directory or default
        # Where tests and people look for the address of the stack.
        self.env_file = (LOCAL_DIRECTORY if self.directory == default else self.directory) / "stack.env"
        # What tests could not try on this stack's emulator, a line each.
        self.untested = self.env_file.with_name("not-tested.txt")
        self.package = self.directory / "package"
        self.template = self.package / "template.yaml"
        self.emulator_log = self.directory / "emulator.log"
        self.tmp = self.directory / "tmp"
        self.directory.mkdir(parents=True, exist_ok=True)

    def clear_tmp(self) -> None:
        """Only while no emulator runs: the functions run from there."""
        shutil.rmtree(self.tmp, ignore_errors=True)
        self.tmp.mkdir(exist_ok=True)

    def read(self, name: str) -> dict[str, Any]:
        """The record of that name, or an empty one."""
        path = self._record(name)
        record: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
        return record

    def write(self, name: str, record: dict[str, Any]) -> None:
        path = self._record(name)
        new = path.with_suffix(".new")
        new.write_text(json.dumps(record, indent=2) + "\n")
        new.replace(path)

    def forget(self, name: str) -> None:
        self._record(name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def lock_exclusively(self) -> Iterator[None]:
        """Keeps two commands from changing the same stack at once."""
        with (self.directory / "command.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print("Waiting for another command on this stack ...", flush=True)
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _record(self, name: str) -> Path:
        return self.directory / f"{name}.json"
