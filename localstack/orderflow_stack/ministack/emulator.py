"""MiniStack, the default emulator: a Python package, no Docker, no account.

In: the settings of a stack. Out: the command line and environment of a `ministack` server, and the calls that make
its deployment complete. Guarantees: it listens on 127.0.0.1 and writes into the stack's state directory only; its
state is in memory.
"""

import os

from orderflow_stack.credentials import REGION
from orderflow_stack.emulator import Emulator, Settings
from orderflow_stack.ports import HOST
from orderflow_stack.virtual_environment import STACK_ENVIRONMENT

# Below it are the APIs by id and stage, as LocalStack has them.
EXECUTE_API_PATH = "/_aws/execute-api"


class MiniStack(Emulator):
    """A `ministack` process."""

    name = "ministack"
    health_path = "/_ministack/health"
    has_websocket_apis = True

    def build_command(self) -> list[str]:
        return [str(STACK_ENVIRONMENT.program("ministack"))]

    def build_environment(self, settings: Settings) -> dict[str, str]:
        # Made from nothing, because every function inherits all of it.
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            # Nobody's dotfiles, and no scratch files outside of the state directory.
            "HOME": str(self.state.tmp),
            "TMPDIR": str(self.state.tmp),
            "STATE_DIR": str(self.state.tmp),
            "GATEWAY_PORT": str(settings.port),
            # Its default is every interface of the machine.
            "BIND_HOST": HOST,
            "MINISTACK_REGION": REGION,
            # What it hands to the functions; without it they would call AWS.
            "AWS_ENDPOINT_URL": settings.functions_endpoint,
            # Two servers on fixed ports that nothing here needs.
            "SFTP_ENABLED": "0",
            "IOT_MTLS_ENABLED": "0",
            "LOG_LEVEL": "WARNING",
        }

    def build_api_url(self, api_id: str, stage: str) -> str:
        return f"{self.url}/restapis/{api_id}/{stage}/_user_request_"

    def build_websocket_url(self, api_id: str, stage: str) -> str:
        # By its path: not every resolver knows names below localhost.
        return f"{self.url}{EXECUTE_API_PATH}/{api_id}/{stage}".replace("http:", "ws:", 1)

    @property
    def mails_url(self) -> str:
        return f"{self.url}/_ministack/ses/messages"

    def choose_template_parameters(self) -> dict[str, str]:
        connections = f"{self.settings.functions_endpoint}{EXECUTE_API_PATH}"
        return {"GatewayResponses": "resources", "ConnectionsEndpoint": connections}

    def complete_deployment(self, outputs: dict[str, str]) -> None:
        # Not at the top: `down` imports this module without the virtual environment that has boto3.
        from orderflow_stack.ministack import deployment_completion

        for table in ("IdempotencyTable", "ConnectionsTable"):
            if table in outputs:
                deployment_completion.enable_expiry(self.url, outputs[table])
        deployment_completion.adapt_mappings(self.url)
        if self.settings.server_env.get("AUTH") == "true":
            deployment_completion.adapt_grants(self.url)
            deployment_completion.adapt_topic_policy(self.url, outputs["TopicArn"])
