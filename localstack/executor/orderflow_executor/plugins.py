"""What LocalStack loads (see entry_points.txt): a way to run functions, and its DynamoDB.

LocalStack itself can run functions in Docker only, and would download DynamoDB Local and a JDK.
Settings, from the environment of the server:

ORDERFLOW_FUNCTIONS_ENDPOINT   what functions get as AWS_ENDPOINT_URL
ORDERFLOW_DYNAMODB_LOCAL       the directory that DynamoDBLocal.jar is in
"""

import os
from pathlib import Path
from typing import Any

from localstack.runtime import hooks
from localstack.services.dynamodb.packages import DynamoDBLocalPackageInstaller
from localstack.services.dynamodb.server import DynamodbServer
from localstack.services.lambda_.invocation.lambda_models import FunctionVersion, InvocationResult
from localstack.services.lambda_.invocation.plugins import RuntimeExecutorPlugin
from localstack.services.lambda_.invocation.runtime_executor import RuntimeExecutor
from localstack.utils.patch import patch

from orderflow_executor.environment import Environment, Function
from orderflow_executor.process import tied
from orderflow_executor.runtime_api import Invocation

HOST = "127.0.0.1"


class ProcessExecutorPlugin(RuntimeExecutorPlugin):
    """Chosen by LAMBDA_RUNTIME_EXECUTOR=process."""

    name = "process"

    def load(self, *args: Any, **kwargs: Any) -> type[RuntimeExecutor]:
        return ProcessExecutor


class ProcessExecutor(RuntimeExecutor):
    """Between LocalStack's idea of an execution environment and ours."""

    def __init__(self, id: str, function_version: FunctionVersion) -> None:
        super().__init__(id, function_version)
        self._environment: Environment | None = None

    def start(self, env_vars: dict[str, Any]) -> None:
        # The process itself is started at the first invocation, which follows: the one to whose
        # log and answer it belongs if that fails.
        config = self.function_version.config
        code = config.code.get_unzipped_code_location()
        variables = {name: str(value) for name, value in env_vars.items()}
        variables |= {"PATH": os.defpath, "LANG": "en_US.UTF-8", "LAMBDA_TASK_ROOT": str(code)}
        endpoint = os.environ.get("ORDERFLOW_FUNCTIONS_ENDPOINT")
        if endpoint and "AWS_ENDPOINT_URL" not in (config.environment or {}):
            variables["AWS_ENDPOINT_URL"] = endpoint
        self._environment = Environment(
            Function(
                code,
                variables,
                config.timeout,
                config.memory_size,
                self.function_version.id.qualifier,
            )
        )

    def stop(self) -> None:
        if self._environment:
            self._environment.stop()

    def invoke(self, payload: dict[str, str]) -> InvocationResult:
        assert self._environment is not None
        request_id = payload["invoke-id"]
        result = self._environment.invoke(
            Invocation(
                request_id,
                payload["payload"].encode(),
                payload["invoked-function-arn"],
                payload["trace-id"],
            )
        )
        return InvocationResult(request_id, result.payload, result.is_error, result.log)

    def get_address(self) -> str:
        return HOST

    def get_endpoint_from_executor(self) -> str:
        return HOST

    def get_runtime_endpoint(self) -> str:
        # Only LocalStack's own init process, which runs in its containers, calls it.
        return ""

    def get_logs(self) -> str:
        # They are part of each result.
        return ""

    @classmethod
    def prepare_version(cls, function_version: FunctionVersion) -> None:
        if function_version.config.code:
            function_version.config.code.prepare_for_execution()

    @classmethod
    def cleanup_version(cls, function_version: FunctionVersion) -> None:
        """LocalStack deletes the code itself."""


@hooks.on_infra_start()
def use_installed_dynamodb_local() -> None:
    """Makes LocalStack run the DynamoDB Local that stack.py has installed, with the Java on PATH,
    without its agent (for more than 20 indexes a table), and never without LocalStack."""
    directory = os.environ["ORDERFLOW_DYNAMODB_LOCAL"]

    @patch(DynamoDBLocalPackageInstaller.get_installed_dir)
    def get_installed_dir(_: Any, self: DynamoDBLocalPackageInstaller) -> str:
        return directory

    @patch(DynamoDBLocalPackageInstaller.get_java_env_vars)
    def get_java_env_vars(_: Any, self: DynamoDBLocalPackageInstaller) -> dict[str, str]:
        return {}
