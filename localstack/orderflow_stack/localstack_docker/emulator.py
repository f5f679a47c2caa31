"""LocalStack where Docker is: its own image (compose.yaml), and functions in containers."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from orderflow_stack.emulator import Emulator, Settings, url_of
from orderflow_stack.errors import StackError

MODES = ("host", "docker")
COMPOSE_FILE = ("--file", str(Path(__file__).with_name("compose.yaml")))


def docker_is_wanted() -> bool:
    """LOCALSTACK_MODE decides; without it, whether a Docker daemon answers."""
    mode = os.environ.get("LOCALSTACK_MODE")
    if mode and mode not in MODES:
        raise StackError(f"LOCALSTACK_MODE is {mode}; it can be {' or '.join(MODES)}")
    return mode == "docker" if mode else _docker_answers()


def _docker_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    return all(
        subprocess.run(["docker", *words], capture_output=True).returncode == 0
        for words in (["info"], ["compose", "version"])
    )


class LocalStackDocker(Emulator):
    """A LocalStack 4.14.0, which needs nothing to be installed. Its state is in memory."""

    name = "localstack"
    docker = True
    # The first start downloads the image.
    start_timeout = 900
    # It removes the functions' containers.
    stop_timeout = 40
    unchangeable = frozenset({"AWS::ApiGateway::RestApi"})

    def install(self) -> None:
        if not _docker_answers():
            raise StackError(
                "no Docker daemon answers, or `docker compose` is missing; "
                "LOCALSTACK_MODE=host runs LocalStack without Docker"
            )

    def command(self) -> list[str]:
        return [*self._compose(), "up", "--abort-on-container-exit"]

    def environment(self, settings: Settings) -> dict[str, str]:
        if settings.functions_endpoint != url_of(settings.port) or settings.server_env:
            raise StackError(
                "in Docker there is no --functions-endpoint, because functions in containers "
                "cannot reach it, and no --server-env; LOCALSTACK_MODE=host has both"
            )
        return dict(os.environ) | {"PORT": str(settings.port)}

    def remove_remains(self) -> None:
        # Also where `up` was killed, whose containers then go on.
        down = [*self._compose(), "down", "--volumes"]
        result = subprocess.run(down, capture_output=True, text=True)
        if result.returncode != 0:
            raise StackError(f"the containers could not be removed:\n{result.stderr.strip()}")

    def health_path(self) -> str:
        return "/_localstack/health"

    def api_url(self, api_id: str, stage: str) -> str:
        return f"{self.url}/_aws/execute-api/{api_id}/{stage}"

    def mails_url(self) -> str:
        return f"{self.url}/_aws/ses"

    def _compose(self) -> list[str]:
        # A project of its own for each state directory: stacks stand side by side.
        name = hashlib.sha256(str(self.state.directory).encode()).hexdigest()[:12]
        return ["docker", "compose", "--project-name", f"orderflow-{name}", *COMPOSE_FILE]
