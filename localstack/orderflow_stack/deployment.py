"""Deploys the template to a running emulator, tries every function once, and writes the settings file.

In: the staged functions and template of a stack, and the parameters that were asked for. Out: a deployed stack and
its settings file.
Guarantees: what has not changed is not deployed again; a change that the emulator cannot make is refused before
anything is changed.
"""

import hashlib
import json
import platform
import re
import time
from typing import Any

from awscli.customizations.cloudformation.yamlhelper import yaml_dump, yaml_parse

from orderflow_stack import aws
from orderflow_stack.binaries import TEMPLATE
from orderflow_stack.cli import Options
from orderflow_stack.deployed_stack import STACK_NAME, DeployedStack, describe_stack
from orderflow_stack.emulator import Emulator
from orderflow_stack.errors import StackError
from orderflow_stack.function_versions import mark_changes
from orderflow_stack.settings_file import write_settings_file
from orderflow_stack.smoke_test import call_every_function
from orderflow_stack.state import State
from orderflow_stack.storefront.server import StorefrontServer
from orderflow_stack.stripe.account import prepare_account
from orderflow_stack.stripe.server import StripeServer

BUCKET = "orderflow-code"
DEPLOY_TIMEOUT_SECONDS = 300
POLL_INTERVAL_SECONDS = 0.2
# Shorter waits than on AWS: whoever tries things on one machine does not want to wait for minutes.
LOCAL_PARAMETERS = {
    "RetrySchedule": "1,2,4,8",
    "GiveUpAfterSeconds": "10",
    "NotificationGiveUpAfterSeconds": "60",
    "RelayAgeSeconds": "5",
    "MailsPerSecond": "100",
    # No emulator has saved queries, and MiniStack refuses a template with them or with alarms that calculate.
    "Observability": "basic",
}
CAPABILITIES = ("CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND")


def deploy(state: State, emulator: Emulator, options: Options, hashes: dict[str, str]) -> None:
    """Deploys what has changed since the last time, if anything has."""
    requested = _collect_requested_parameters(state, options)
    if requested.get("LiveUpdates") == "on" and not emulator.has_websocket_apis:
        raise StackError(f"{emulator.name} has no WebSocket APIs: deploy without LiveUpdates=on")
    if options.storefront:
        storefront = StorefrontServer(state)
        storefront.ensure_started(any_port=options.port == 0)
        # As a shop would: pages of its own origin and of no other.
        requested["CorsOrigin"] = options.parameters.get("CorsOrigin", storefront.url)
    stripe = _start_stripe(state, emulator, requested, options.stripe_port)
    of_stripe = prepare_account(emulator, options.functions_endpoint or stripe.url) if stripe else {}
    parameters = _choose_parameters(emulator, requested, of_stripe)
    fingerprint = _compute_fingerprint(hashes, parameters)
    earlier = state.read("deployed").get("fingerprint")
    if earlier == fingerprint:
        print("Nothing has changed since the last deployment.", flush=True)
    elif earlier and not emulator.can_change_stacks:
        raise StackError(
            f"{emulator.name} cannot change a running stack. Nothing is changed. `make down` stops it, "
            "its data goes with it; `make up` then deploys it anew."
        )
    else:
        print(f"Deploying to {emulator.name} ({emulator.url}) ...", flush=True)
        _package_and_deploy(state, emulator, parameters)
        stack = describe_stack(emulator)
        _refuse_unknown_parameters(parameters, stack)
        emulator.complete_deployment(stack.outputs)
        if parameters["MailMode"] == "ses":
            _verify_sender(emulator, stack)
        call_every_function(emulator, stack)
        state.write("deployed", {"fingerprint": fingerprint, "asked": requested})
    stack = describe_stack(emulator)
    if stripe:
        # Each time: what it was told is gone if it has been started again.
        stripe.send_webhooks_to(f"{stack.api_url}/payments/webhook")
    else:
        StripeServer(state).stop()
    write_settings_file(state, emulator, stack)


def _collect_requested_parameters(state: State, options: Options) -> dict[str, str]:
    """What this command asks for, and what earlier ones have asked for on this running stack."""
    earlier: dict[str, str] = state.read("deployed").get("asked", {})
    mail_mode = {"MailMode": options.mail_mode} if options.mail_mode else {}
    payments = {"Payments": options.payments} if options.payments else {}
    return earlier | mail_mode | payments | options.parameters


def _start_stripe(state: State, emulator: Emulator, requested: dict[str, str], port: int) -> StripeServer | None:
    """Where orders are paid."""
    if requested.get("Payments", "none") == "none":
        return None
    if emulator.in_docker:
        raise StackError(
            "in Docker there are no payments, because functions in containers cannot reach localstripe; "
            "LOCALSTACK_MODE=host has them"
        )
    server = StripeServer(state)
    server.ensure_started(port)
    return server


def _choose_parameters(emulator: Emulator, requested: dict[str, str], of_stripe: dict[str, str]) -> dict[str, str]:
    is_arm = platform.machine().lower() in ("arm64", "aarch64")
    host = {"Architecture": "arm64" if is_arm else "x86_64", "MailMode": "console"}
    return host | LOCAL_PARAMETERS | emulator.choose_template_parameters() | of_stripe | requested


def _compute_fingerprint(hashes: dict[str, str], parameters: dict[str, str]) -> str:
    template = hashlib.sha256(TEMPLATE.read_bytes()).hexdigest()
    everything = json.dumps([template, hashes, parameters], sort_keys=True)
    return hashlib.sha256(everything.encode()).hexdigest()


def _package_and_deploy(state: State, emulator: Emulator, parameters: dict[str, str]) -> None:
    aws.create_client("s3", emulator.url).create_bucket(Bucket=BUCKET)
    packaged = state.directory / "packaged.yaml"
    aws.run_cli(
        emulator.url,
        *("cloudformation", "package", "--template-file", str(state.template)),
        *("--s3-bucket", BUCKET, "--output-template-file", str(packaged)),
    )
    packaged.write_text(yaml_dump(mark_changes(yaml_parse(packaged.read_text()), parameters)))
    output = aws.run_cli(
        emulator.url,
        *("cloudformation", "deploy", "--template-file", str(packaged), "--no-execute-changeset"),
        # By way of S3, because the API itself takes no template of more than 51,200 bytes.
        *("--stack-name", STACK_NAME, "--no-fail-on-empty-changeset", "--s3-bucket", BUCKET),
        *("--capabilities", *CAPABILITIES),
        *("--parameter-overrides", *(f"{key}={value}" for key, value in parameters.items())),
    )
    # Where there is nothing to change there is no change set.
    if change_set := re.search(r"arn:aws:cloudformation:\S+:changeSet/\S+", output):
        _execute_change_set(emulator, change_set[0])


def _execute_change_set(emulator: Emulator, change_set: str) -> None:
    """What `aws cloudformation deploy` would do, but that looks only every 30 seconds."""
    cloudformation = aws.create_client("cloudformation", emulator.url)
    cloudformation.execute_change_set(ChangeSetName=change_set)
    deadline = time.monotonic() + DEPLOY_TIMEOUT_SECONDS
    while (status := _read_status(cloudformation)).endswith("_IN_PROGRESS"):
        if time.monotonic() > deadline:
            raise StackError(f"the deployment is not done after {DEPLOY_TIMEOUT_SECONDS} s: {status}")
        time.sleep(POLL_INTERVAL_SECONDS)
    if status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        raise StackError(f"the deployment ended in {status}:\n{_list_failed_events(cloudformation)}")


def _read_status(cloudformation: Any) -> str:
    stack = cloudformation.describe_stacks(StackName=STACK_NAME)["Stacks"][0]
    return str(stack["StackStatus"])


def _refuse_unknown_parameters(parameters: dict[str, str], stack: DeployedStack) -> None:
    # The AWS CLI drops them in silence.
    unknown = parameters.keys() - stack.parameters.keys()
    if unknown:
        raise StackError(f"the template has no parameter {', '.join(sorted(unknown))}")


def _list_failed_events(cloudformation: Any) -> str:
    events = cloudformation.describe_stack_events(StackName=STACK_NAME)["StackEvents"]
    return "\n".join(
        f"  {event['LogicalResourceId']}: {event.get('ResourceStatusReason', '')}"
        for event in events
        if event["ResourceStatus"].endswith("FAILED")
    )


def _verify_sender(emulator: Emulator, stack: DeployedStack) -> None:
    # On AWS its owner does this, by clicking on a link in a mail.
    sender = stack.parameters["MailFrom"]
    aws.create_client("ses", emulator.url).verify_email_identity(EmailAddress=sender)
