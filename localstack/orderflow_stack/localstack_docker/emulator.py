"""LocalStack where Docker is: its own image (compose.yaml), and functions in containers.

In: the settings of a stack. Out: calls of `docker compose`. Guarantees: each state directory is a compose project of
its own; after `stop` no container of it is left, or it is said that some are. Its state is in memory.
"""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from orderflow_stack.emulator import Emulator, Settings
from orderflow_stack.errors import StackError
from orderflow_stack.ports import build_url

MODES = ("host", "docker")
COMPOSE_FILE = Path(__file__).with_name("compose.yaml")


def is_docker_wanted() -> bool:
    """LOCALSTACK_MODE decides; without it, whether a Docker daemon answers."""
    mode = os.environ.get("LOCALSTACK_MODE")
    if mode and mode not in MODES:
        raise StackError(f"LOCALSTACK_MODE is {mode}; it can be {' or '.join(MODES)}")
    return mode == "docker" if mode else _does_docker_answer()


def _does_docker_answer() -> bool:
    if shutil.which("docker") is None:
        return False
    return all(
        subprocess.run(["docker", *words], capture_output=True, check=False).returncode == 0
        for words in (["info"], ["compose", "version"])
    )


class LocalStackDocker(Emulator):
    """A LocalStack 4.14.0, which needs nothing to be installed."""

    name = "localstack"
    health_path = "/_localstack/health"
    in_docker = True
    # The first start downloads the image.
    start_timeout_seconds = 900
    # It removes the functions' containers.
    stop_timeout_seconds = 40
    # As in host mode.
    can_change_stacks = False

    def install(self) -> None:
        if not _does_docker_answer():
            raise StackError(
                "no Docker daemon answers, or `docker compose` is missing; "
                "LOCALSTACK_MODE=host runs LocalStack without Docker"
            )

    def build_command(self) -> list[str]:
        return [*self._build_compose_command(), "up", "--abort-on-container-exit"]

    def build_environment(self, settings: Settings) -> dict[str, str]:
        if settings.functions_endpoint != build_url(settings.port) or settings.server_env:
            raise StackError(
                "in Docker there is no --functions-endpoint, because functions in containers "
                "cannot reach it, and no --server-env; LOCALSTACK_MODE=host has both"
            )
        return dict(os.environ) | {"PORT": str(settings.port)}

    def remove_leftovers(self) -> None:
        # Also where `up` was killed, whose containers then go on.
        down = [*self._build_compose_command(), "down", "--volumes"]
        result = subprocess.run(down, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise StackError(f"the containers could not be removed:\n{result.stderr.strip()}")

    def build_api_url(self, api_id: str, stage: str) -> str:
        return f"{self.url}/_aws/execute-api/{api_id}/{stage}"

    @property
    def mails_url(self) -> str:
        return f"{self.url}/_aws/ses"

    def _build_compose_command(self) -> list[str]:
        # A project of its own for each state directory: stacks stand side by side.
        name = hashlib.sha256(str(self.state.directory).encode()).hexdigest()[:12]
        return ["docker", "compose", "--project-name", f"orderflow-{name}", "--file", str(COMPOSE_FILE)]
