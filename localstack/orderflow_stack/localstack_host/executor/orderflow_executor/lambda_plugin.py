"""Lets LocalStack run functions as processes; by itself it can run them in Docker only.

In: versions of functions and their invocations, from LocalStack; ORDERFLOW_FUNCTIONS_ENDPOINT in the server's
environment, which functions get as AWS_ENDPOINT_URL. Out: LocalStack's `InvocationResult`, with the log.
Guarantees: a function sees its own environment variables, and none of the server's.
"""

import os
from pathlib import Path
from typing import Any

from localstack.services.lambda_.invocation.lambda_models import FunctionVersion, InvocationResult
from localstack.services.lambda_.invocation.plugins import RuntimeExecutorPlugin
from localstack.services.lambda_.invocation.runtime_executor import RuntimeExecutor

from orderflow_executor.environment import Environment, Function
from orderflow_executor.runtime_api import Invocation

HOST = "127.0.0.1"


class ProcessExecutorPlugin(RuntimeExecutorPlugin):
    """Chosen by LAMBDA_RUNTIME_EXECUTOR=process."""

    name = "process"

    def load(self, *args: Any, **kwargs: Any) -> type[RuntimeExecutor]:
        return ProcessExecutor


class ProcessExecutor(RuntimeExecutor):
    """LocalStack's interface to one execution environment."""

    def __init__(self, id: str, function_version: FunctionVersion) -> None:
        super().__init__(id, function_version)
        self._environment: Environment | None = None

    def start(self, env_vars: dict[str, Any]) -> None:
        # The process is started by the first invocation, which follows at once: if it fails, that
        # is the one to whose answer and log this belongs.
        config = self.function_version.config
        code: Path = config.code.get_unzipped_code_location()
        variables = {name: str(value) for name, value in env_vars.items()}
        variables |= {"PATH": os.defpath, "LANG": "C.UTF-8", "LAMBDA_TASK_ROOT": str(code)}
        endpoint = os.environ.get("ORDERFLOW_FUNCTIONS_ENDPOINT")
        if endpoint and "AWS_ENDPOINT_URL" not in (config.environment or {}):
            variables["AWS_ENDPOINT_URL"] = endpoint
        version = self.function_version.id.qualifier
        self._environment = Environment(Function(code, variables, config.timeout, config.memory_size, version))

    def stop(self) -> None:
        if self._environment:
            self._environment.stop()

    def invoke(self, payload: dict[str, str]) -> InvocationResult:
        assert self._environment is not None
        invocation = Invocation(
            payload["invoke-id"],
            payload["payload"].encode(),
            payload["invoked-function-arn"],
            payload["trace-id"],
        )
        result = self._environment.invoke(invocation)
        return InvocationResult(invocation.request_id, result.payload, result.is_error, logs=result.log)

    def get_address(self) -> str:
        return HOST

    def get_endpoint_from_executor(self) -> str:
        return HOST

    def get_runtime_endpoint(self) -> str:
        # Only the init process of LocalStack's containers would call it.
        return ""

    def get_logs(self) -> str:
        # They are in the results.
        return ""

    @classmethod
    def prepare_version(cls, function_version: FunctionVersion) -> None:
        if function_version.config.code:
            function_version.config.code.prepare_for_execution()

    @classmethod
    def cleanup_version(cls, function_version: FunctionVersion) -> None:
        """LocalStack itself deletes the code, and nothing else was made."""
