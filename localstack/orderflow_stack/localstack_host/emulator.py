"""LocalStack without Docker: a process of this machine, and functions that are processes, too.

In: the settings of a stack. Out: the command line and environment of a LocalStack 4.13.1 with the plugins in
`executor`. Guarantees: it listens on 127.0.0.1 and writes into the stack's state directory only; its state is in
memory.
"""

import os
from pathlib import Path

from orderflow_stack.emulator import Emulator, Settings
from orderflow_stack.localstack_host.setup import DYNAMODB_LOCAL, LOCALSTACK_ENVIRONMENT, find_java, install
from orderflow_stack.ports import HOST

EXECUTOR = Path(__file__).with_name("executor")


class LocalStackHost(Emulator):
    """A `localstack.runtime.main` process."""

    name = "localstack"
    health_path = "/_localstack/health"
    # It can take half a minute to end by itself, and has nothing to save.
    stop_timeout_seconds = 5
    # It resolves what refers to resources whose condition is false, and fails; and it changes no REST API.
    can_change_stacks = False

    def install(self) -> None:
        install()

    def build_command(self) -> list[str]:
        return [str(LOCALSTACK_ENVIRONMENT.program("python")), "-m", "localstack.runtime.main"]

    def build_environment(self, settings: Settings) -> dict[str, str]:
        java_directory = find_java().parent
        address = f"{HOST}:{settings.port}"
        return {
            "PATH": f"{java_directory}:{os.environ.get('PATH', os.defpath)}",
            "PYTHONPATH": str(EXECUTOR),
            # Nothing is written but into the state directory.
            "HOME": str(self.state.tmp),
            "TMPDIR": str(self.state.tmp),
            "FILESYSTEM_ROOT": str(self.state.tmp / "root"),
            "OVERRIDE_IN_DOCKER": "0",
            # No other port is fixed: DynamoDB Local and the functions' Runtime API take free ones.
            "GATEWAY_LISTEN": address,
            # What URLs of queues begin with.
            "LOCALSTACK_HOST": address,
            "SQS_ENDPOINT_STRATEGY": "path",
            "DNS_ADDRESS": "0",
            # Nothing is called that is not on this machine.
            "SKIP_SSL_CERT_DOWNLOAD": "1",
            "DISABLE_EVENTS": "1",
            "LS_LOG": "warning",
            # Less waiting between the steps of a deployment; after these a second each.
            "CFN_NO_WAIT_ITERATIONS": "100",
            "LAMBDA_RUNTIME_EXECUTOR": "process",
            "ORDERFLOW_FUNCTIONS_ENDPOINT": settings.functions_endpoint,
            "PROVIDER_OVERRIDE_DYNAMODB": "v2",
            "DYNAMODB_IN_MEMORY": "1",
            "ORDERFLOW_DYNAMODB_LOCAL": str(DYNAMODB_LOCAL),
            # The pauses between two looks at a queue: by default a second after each batch, and up
            # to ten when it is empty.
            "LAMBDA_EVENT_SOURCE_MAPPING_POLL_INTERVAL_SEC": "0.02",
            "LAMBDA_EVENT_SOURCE_MAPPING_MAX_BACKOFF_ON_EMPTY_POLL_SEC": "0.3",
            # Alarms on queues see what happens within seconds, not a minute later.
            "SQS_CLOUDWATCH_METRICS_REPORT_INTERVAL": "10",
        }

    def build_api_url(self, api_id: str, stage: str) -> str:
        return f"{self.url}/_aws/execute-api/{api_id}/{stage}"

    @property
    def mails_url(self) -> str:
        return f"{self.url}/_aws/ses"
