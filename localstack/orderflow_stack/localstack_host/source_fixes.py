"""Changes the lines of an installed LocalStack 4.13.1 that do not work for Orderflow.

In: the folder of its package `localstack`. Out: the same folder, with FIXES applied.
Guarantees: a line that is not as expected stops it; a folder that is mended already is left as it is.
"""

from dataclasses import dataclass
from pathlib import Path

from orderflow_stack.errors import StackError


@dataclass(frozen=True)
class Fix:
    """In `module`, `original` becomes `replacement`."""

    module: str
    original: str
    replacement: str


FIXES = (
    # It runs on Python 3.13 in its own image. Before 3.13 threading.Lock is no class, so there is no union of it; a
    # text is not evaluated.
    Fix(
        "packages/api.py",
        "install_lock: Lock | None = None",
        'install_lock: "Lock | None" = None',
    ),
    # Before 3.12 uuid5 takes no bytes. Encrypted tables get a KMS key, which is made here.
    Fix(
        "services/kms/models.py",
        "uuid.uuid5(self._internal_key_id, key_material)",
        "uuid.uuid5(self._internal_key_id, key_material.hex())",
    ),
    # It listens on every interface of the machine, whatever it is told, and runs what it is given.
    Fix(
        "runtime/server/twisted.py",
        "TCP4ServerEndpoint(reactor, host_and_port.port)",
        "TCP4ServerEndpoint(reactor, host_and_port.port, interface=host_and_port.host)",
    ),
    # It keeps what is in buckets in one folder of /tmp for all LocalStacks of a machine.
    Fix(
        "services/s3/provider.py",
        "EphemeralS3ObjectStore(DEFAULT_S3_TMP_DIR)",
        "EphemeralS3ObjectStore()",
    ),
    # It reads each message's body for the filters of event source mappings, also where there are none, and hands it on
    # written anew; on a deeply nested one it fails for ever.
    Fix(
        "services/lambda_/event_source_mapping/pollers/sqs_poller.py",
        'event["body"] = json.loads(event["body"])',
        'event["body"] = json.loads(event["body"]) if self.filter_patterns else event["body"]',
    ),
)


def apply_source_fixes(package: Path) -> None:
    for fix in FIXES:
        module = package / fix.module
        text = module.read_text()
        if fix.replacement in text:
            continue
        if text.count(fix.original) != 1:
            raise StackError(
                f"{module} is not as FIXES in {__file__} expects it; delete {package.parents[3]} to install it anew"
            )
        new = module.with_suffix(".new")
        new.write_text(text.replace(fix.original, fix.replacement))
        new.replace(module)
