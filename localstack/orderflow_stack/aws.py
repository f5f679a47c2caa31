"""Clients and the AWS CLI for the emulator, in an environment that keeps them off the real AWS.

In: the emulator's URL. Out: boto3 clients, and what the AWS CLI prints.
Guarantees: after `isolate_environment` no setting of the user's own AWS account has any effect.
Needs boto3, so it is imported inside .local/venv only.
"""

import os
import subprocess
from typing import Any

import boto3

from orderflow_stack.credentials import CREDENTIALS, REGION
from orderflow_stack.errors import StackError
from orderflow_stack.virtual_environment import STACK_ENVIRONMENT


def isolate_environment() -> None:
    """Drops what this process has inherited for AWS: no call may end up in somebody's account."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(CREDENTIALS)
    os.environ.update(
        AWS_REGION=REGION,
        AWS_DEFAULT_REGION=REGION,
        AWS_CONFIG_FILE=os.devnull,
        AWS_SHARED_CREDENTIALS_FILE=os.devnull,
        AWS_EC2_METADATA_DISABLED="true",
        AWS_PAGER="",
    )
    # A proxy may be needed to build, but not to reach this machine.
    for name in ("NO_PROXY", "no_proxy"):
        hosts = [host for host in os.environ.get(name, "").split(",") if host]
        os.environ[name] = ",".join([*hosts, "127.0.0.1", "localhost"])


def create_client(service: str, endpoint: str) -> Any:
    """Any, because boto3 makes the methods of its clients while it runs."""
    return boto3.client(service, endpoint_url=endpoint, region_name=REGION)


def run_cli(endpoint: str, *arguments: str) -> str:
    """Runs the AWS CLI on an emulator; what it says is returned, or shown if it fails."""
    # A variable, because --endpoint-url does not reach the client `package` uploads with.
    return run_cli_with({"AWS_ENDPOINT_URL": endpoint}, *arguments)


def run_cli_with(variables: dict[str, str], *arguments: str) -> str:
    """Runs the AWS CLI with these variables beside this process's own."""
    result = subprocess.run(
        [str(STACK_ENVIRONMENT.program("python")), str(STACK_ENVIRONMENT.program("aws")), *arguments],
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        raise StackError(f"aws {' '.join(arguments[:2])} failed:\n{result.stdout.strip()}")
    return result.stdout
