"""A function, as LocalStack describes it to an executor, and the result of an invocation."""

from dataclasses import dataclass
from pathlib import Path

class ArchiveCode:
    def get_unzipped_code_location(self) -> Path: ...
    def prepare_for_execution(self) -> None: ...

class VersionFunctionConfiguration:
    timeout: int
    memory_size: int
    environment: dict[str, str] | None
    code: ArchiveCode

class VersionIdentifier:
    qualifier: str

class FunctionVersion:
    id: VersionIdentifier
    config: VersionFunctionConfiguration

@dataclass
class InvocationResult:
    request_id: str
    payload: bytes | None
    is_error: bool
    logs: str | None
    executed_version: str | None = None
