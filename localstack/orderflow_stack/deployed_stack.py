"""The deployed stack, as CloudFormation describes it.

In: a running emulator. Out: `DeployedStack`, the outputs and parameters of its stack and the URL of its API.
"""

from dataclasses import dataclass

from orderflow_stack import aws
from orderflow_stack.emulator import Emulator

STACK_NAME = "orderflow"


@dataclass(frozen=True)
class DeployedStack:
    """What the template's resources are called in this deployment."""

    outputs: dict[str, str]
    parameters: dict[str, str]
    # No slash at the end.
    api_url: str
    # Of the WebSocket API, if it is there.
    live_updates_url: str | None


def describe_stack(emulator: Emulator) -> DeployedStack:
    cloudformation = aws.create_client("cloudformation", emulator.url)
    stack = cloudformation.describe_stacks(StackName=STACK_NAME)["Stacks"][0]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}
    parameters = {parameter["ParameterKey"]: parameter["ParameterValue"] for parameter in stack.get("Parameters", [])}
    stage = outputs["ApiStage"]
    live = outputs.get("LiveUpdatesApiId")
    return DeployedStack(
        outputs,
        parameters,
        emulator.build_api_url(outputs["ApiId"], stage),
        # Both stages have the same name.
        emulator.build_websocket_url(live, stage) if live else None,
    )
