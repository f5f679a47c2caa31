"""Writes the settings file of a stack (stack.env), by which tests, people and `orderflow` know where it is.

In: a running emulator and the deployed stack. Out: `KEY=value` lines, which a shell can read.
Guarantees: the file is there whole or not at all.
"""

import re

from orderflow_stack.credentials import CREDENTIALS, REGION
from orderflow_stack.deployed_stack import STACK_NAME, DeployedStack
from orderflow_stack.emulator import Emulator
from orderflow_stack.state import State
from orderflow_stack.storefront.server import StorefrontServer


def write_settings_file(state: State, emulator: Emulator, stack: DeployedStack) -> None:
    values = {
        "API_URL": stack.api_url,
        # What the functions get; the emulator's own is the next.
        "AWS_ENDPOINT_URL": emulator.settings.functions_endpoint,
        "EMULATOR_URL": emulator.url,
        "AWS_REGION": REGION,
        **CREDENTIALS,
        "EMULATOR": emulator.kind,
        "STACK_NAME": STACK_NAME,
        "MAIL_MODE": stack.parameters["MailMode"],
        "MAILS_URL": emulator.mails_url,
    }
    if stack.parameters["Payments"] == "stripe":
        values["STRIPE_ENDPOINT"] = stack.parameters["StripeEndpoint"]
        values["STRIPE_SECRET_ARN"] = stack.parameters["StripeSecretArn"]
    values |= {_convert_to_upper_snake_case(key): value for key, value in sorted(stack.outputs.items())}
    if stack.live_updates_url:
        # The output is what it would be on AWS.
        values["LIVE_UPDATES_URL"] = stack.live_updates_url
    if StorefrontServer(state).is_running():
        values["STOREFRONT_URL"] = StorefrontServer(state).url
    new = state.env_file.with_suffix(".new")
    new.write_text("".join(f"{key}={value}\n" for key, value in values.items()))
    new.replace(state.env_file)


def _convert_to_upper_snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).upper()
