"""Builds the functions and zips them up next to a copy of the template that names the ZIP files.

In: the workspace, or a directory with binaries (--bin-dir), and infra/template.yaml. Out: the folder `package` of a
stack's directory, and the hash of each function's binary.
Guarantees: the same binary is the same ZIP; a function that has not changed is not zipped again.
"""

import hashlib
import re
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

from orderflow_stack.errors import StackError
from orderflow_stack.paths import REPOSITORY
from orderflow_stack.state import State

TEMPLATE = REPOSITORY / "infra" / "template.yaml"
CODE_URI = re.compile(r"CodeUri: \.\./target/lambda/([\w-]+)/")
# In a ZIP the upper half of an entry's attributes is its Unix mode: an executable file.
ZIP_EXECUTABLE_FILE = 0o100755 << 16


def build() -> None:
    """One dev build of all binaries; it is shared with the tests."""
    print("Building the functions ...", flush=True)
    command = ["cargo", "build", "--workspace", "--bins"]
    try:
        result = subprocess.run(command, cwd=REPOSITORY, check=False)
    except FileNotFoundError:
        raise StackError("cargo is not installed (https://rustup.rs)") from None
    if result.returncode != 0:
        raise StackError("the build failed")


def stage(state: State, bin_dir: Path | None) -> dict[str, str]:
    """Zips the functions that have changed; returns the hash of each function's binary. In `bin_dir` they are files as
    cargo leaves them, or directories as cargo-lambda does.

    `aws cloudformation package` would zip them too, but all of them, every time, and thoroughly: with dev builds, most
    of the time a deployment takes. So the template's copy names ZIP files."""
    bin_dir = bin_dir or REPOSITORY / "target" / "debug"
    state.package.mkdir(exist_ok=True)
    template = TEMPLATE.read_text()
    # The template is the list of functions: a new one needs no change here.
    functions = CODE_URI.findall(template)
    before = state.read("staged")
    after = {
        function: _stage_function(state, function, bin_dir / function, before.get(function)) for function in functions
    }
    state.write("staged", after)
    state.template.write_text(CODE_URI.sub(r"CodeUri: ./\1.zip", template))
    return {function: record["sha256"] for function, record in after.items()}


def _stage_function(state: State, function: str, source: Path, before: dict[str, Any] | None) -> dict[str, Any]:
    if source.is_dir():
        source /= "bootstrap"
    if not source.is_file():
        raise StackError(f"{source} is missing: build it, or leave out --no-build")
    target = state.package / f"{function}.zip"
    status = source.stat()
    version = {"source": str(source), "modified": status.st_mtime_ns, "size": status.st_size}
    if before and target.is_file() and version.items() <= before.items():
        return before
    binary = _strip(source, state.package / function)
    _zip(binary, target)
    return version | {"sha256": hashlib.sha256(binary).hexdigest()}


def _strip(source: Path, scratch: Path) -> bytes:
    """Without its debug information a function is much smaller, and as much faster to deploy."""
    strip = shutil.which("strip")
    if strip:
        command = [strip, "-o", str(scratch), str(source)]
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            binary = scratch.read_bytes()
            scratch.unlink()
            return binary
    return source.read_bytes()


def _zip(binary: bytes, target: Path) -> None:
    # ZipInfo's constant date: the same binary is the same ZIP, which is then not deployed again.
    entry = zipfile.ZipInfo("bootstrap")
    entry.external_attr = ZIP_EXECUTABLE_FILE
    entry.compress_type = zipfile.ZIP_DEFLATED
    new = target.with_suffix(".new")
    with zipfile.ZipFile(new, "w", compresslevel=1) as archive:
        archive.writestr(entry, binary, compresslevel=1)
    new.replace(target)
