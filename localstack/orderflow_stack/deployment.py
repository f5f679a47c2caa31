"""Deploys the template to a running emulator, checks that it works, and writes down where it is."""

import hashlib
import json
import platform
import re
import time
import urllib.error
import urllib.request
from typing import Any

from orderflow_stack import aws
from orderflow_stack.binaries import TEMPLATE
from orderflow_stack.cli import Options
from orderflow_stack.emulator import CREDENTIALS, REGION, Emulator
from orderflow_stack.errors import StackError
from orderflow_stack.state import State

STACK_NAME = "orderflow"
BUCKET = "orderflow-code"
DEPLOY_TIMEOUT = 300
# Whoever tries things on one machine does not want to wait for minutes.
IMPATIENT = {"RetrySchedule": "1,2,4,8", "RelayAgeSeconds": "5", "MailsPerSecond": "100"}
CAPABILITIES = ("CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND")


def deploy(state: State, emulator: Emulator, options: Options, hashes: dict[str, str]) -> None:
    """Deploys what has changed since the last time, or nothing."""
    asked = _asked(state, options)
    parameters = _parameters(emulator, asked)
    fingerprint = _fingerprint(hashes, parameters)
    if state.read("deployed").get("fingerprint") == fingerprint:
        print("Nothing has changed since the last deployment.", flush=True)
    else:
        print(f"Deploying to {emulator.name} ({emulator.url}) ...", flush=True)
        _package_and_deploy(state, emulator, parameters)
        stack = describe(emulator)
        _refuse_unknown(parameters, stack)
        emulator.complete(stack["outputs"])
        if parameters["MailMode"] == "ses":
            _verify_sender(emulator, stack)
        _check(emulator, stack)
        state.write("deployed", {"fingerprint": fingerprint, "asked": asked})
    _write_env_file(state, emulator, describe(emulator))


def describe(emulator: Emulator) -> dict[str, Any]:
    """The deployed stack: its outputs and parameters."""
    stack = aws.client("cloudformation", emulator.url).describe_stacks(StackName=STACK_NAME)[
        "Stacks"
    ][0]
    return {
        "outputs": {o["OutputKey"]: o["OutputValue"] for o in stack.get("Outputs", [])},
        "parameters": {p["ParameterKey"]: p["ParameterValue"] for p in stack.get("Parameters", [])},
    }


def api_url(emulator: Emulator, stack: dict[str, Any]) -> str:
    return emulator.api_url(stack["outputs"]["ApiId"], stack["outputs"]["ApiStage"])


def _asked(state: State, options: Options) -> dict[str, str]:
    """What this command asks for, and what earlier ones have asked for on this running stack."""
    mail_mode = {"MailMode": options.mail_mode} if options.mail_mode else {}
    return state.read("deployed").get("asked", {}) | mail_mode | options.parameters


def _parameters(emulator: Emulator, asked: dict[str, str]) -> dict[str, str]:
    arm = platform.machine().lower() in ("arm64", "aarch64")
    host = {"Architecture": "arm64" if arm else "x86_64", "MailMode": "console"}
    host |= IMPATIENT
    return host | emulator.template_parameters() | asked


def _fingerprint(hashes: dict[str, str], parameters: dict[str, str]) -> str:
    template = hashlib.sha256(TEMPLATE.read_bytes()).hexdigest()
    everything = json.dumps([template, hashes, parameters], sort_keys=True)
    return hashlib.sha256(everything.encode()).hexdigest()


def _package_and_deploy(state: State, emulator: Emulator, parameters: dict[str, str]) -> None:
    aws.client("s3", emulator.url).create_bucket(Bucket=BUCKET)
    packaged = state.directory / "packaged.yaml"
    aws.cli(
        emulator.url,
        *("cloudformation", "package", "--template-file", str(state.template)),
        *("--s3-bucket", BUCKET, "--output-template-file", str(packaged)),
    )
    output = aws.cli(
        emulator.url,
        *("cloudformation", "deploy", "--template-file", str(packaged), "--no-execute-changeset"),
        # By way of S3, because the API itself takes no template of more than 51,200 bytes.
        *("--stack-name", STACK_NAME, "--no-fail-on-empty-changeset", "--s3-bucket", BUCKET),
        *("--capabilities", *CAPABILITIES),
        *("--parameter-overrides", *(f"{key}={value}" for key, value in parameters.items())),
    )
    # Of nothing to change there is no change set.
    if change_set := re.search(r"arn:aws:cloudformation:\S+:changeSet/\S+", output):
        _execute(emulator, change_set[0])


def _execute(emulator: Emulator, change_set: str) -> None:
    """What `aws cloudformation deploy` would do, but that looks only every 30 seconds."""
    cloudformation = aws.client("cloudformation", emulator.url)
    changes = cloudformation.describe_change_set(ChangeSetName=change_set)["Changes"]
    _refuse_unchangeable(emulator, [change["ResourceChange"] for change in changes])
    cloudformation.execute_change_set(ChangeSetName=change_set)
    deadline = time.monotonic() + DEPLOY_TIMEOUT
    while (status := _status(cloudformation)).endswith("_IN_PROGRESS"):
        if time.monotonic() > deadline:
            raise StackError(f"the deployment is not done after {DEPLOY_TIMEOUT} s: {status}")
        time.sleep(0.2)
    if status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        raise StackError(f"the deployment ended in {status}:\n{_failed_events(cloudformation)}")


def _refuse_unchangeable(emulator: Emulator, changes: list[dict[str, Any]]) -> None:
    # Tried nevertheless, it would leave a stack that is neither the old one nor the new one.
    resources = [
        change["LogicalResourceId"]
        for change in changes
        if change["Action"] == "Modify" and change["ResourceType"] in emulator.unchangeable
    ]
    if resources:
        raise StackError(
            f"{emulator.name} cannot change {', '.join(resources)} in a running stack. Nothing is "
            "changed. `make down` stops it, its data goes with it; `make up` then deploys it anew."
        )


def _status(cloudformation: Any) -> str:
    stack = cloudformation.describe_stacks(StackName=STACK_NAME)["Stacks"][0]
    return str(stack["StackStatus"])


def _refuse_unknown(parameters: dict[str, str], stack: dict[str, Any]) -> None:
    # The AWS CLI drops them in silence.
    unknown = parameters.keys() - stack["parameters"].keys()
    if unknown:
        raise StackError(f"the template has no parameter {', '.join(sorted(unknown))}")


def _failed_events(cloudformation: Any) -> str:
    events = cloudformation.describe_stack_events(StackName=STACK_NAME)["StackEvents"]
    return "\n".join(
        f"  {event['LogicalResourceId']}: {event.get('ResourceStatusReason', '')}"
        for event in events
        if event["ResourceStatus"].endswith("FAILED")
    )


def _verify_sender(emulator: Emulator, stack: dict[str, Any]) -> None:
    # On AWS its owner does this, by clicking on a link in a mail.
    sender = stack["parameters"]["MailFrom"]
    aws.client("ses", emulator.url).verify_email_identity(EmailAddress=sender)


def _check(emulator: Emulator, stack: dict[str, Any]) -> None:
    """Starts every function once. CREATE_COMPLETE does not say that its code can run, and an
    emulator may answer for a function that has none."""
    for path in ("/", "/products"):
        _check_api(api_url(emulator, stack) + path)
    functions = aws.client("lambda", emulator.url)
    for mapping in functions.list_event_source_mappings()["EventSourceMappings"]:
        # An empty batch: nothing to do, but everything must be there to do it with.
        _check_function(functions, mapping["FunctionArn"].rsplit(":", 1)[-1], b'{"Records":[]}')
    _check_function(functions, stack["outputs"]["RelayFunction"], b"{}")


def _check_api(url: str) -> None:
    request = urllib.request.Request(url)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            status, body = response.status, response.read()
    except urllib.error.HTTPError as error:
        status, body = error.code, error.read()
    if status >= 500 or b"Mock response" in body:
        raise StackError(
            f"GET {url} answers {status} {body.decode(errors='replace')}; `make logs` may say why"
        )


def _check_function(functions: Any, name: str, event: bytes) -> None:
    answer = functions.invoke(FunctionName=name, Payload=event)
    body = answer["Payload"].read()
    if "FunctionError" in answer or b"Mock response" in body:
        raise StackError(f"{name} fails: {body.decode(errors='replace')}; `make logs` may say why")


def _write_env_file(state: State, emulator: Emulator, stack: dict[str, Any]) -> None:
    values = {
        "API_URL": api_url(emulator, stack),
        # What the functions get; the emulator's own is the next.
        "AWS_ENDPOINT_URL": emulator.settings.functions_endpoint,
        "EMULATOR_URL": emulator.url,
        "AWS_REGION": REGION,
        **CREDENTIALS,
        "EMULATOR": emulator.kind,
        "STACK_NAME": STACK_NAME,
        "MAIL_MODE": stack["parameters"]["MailMode"],
        "MAILS_URL": emulator.mails_url(),
    }
    values |= {_upper_snake(key): value for key, value in sorted(stack["outputs"].items())}
    new = state.env_file.with_suffix(".new")
    new.write_text("".join(f"{key}={value}\n" for key, value in values.items()))
    new.replace(state.env_file)


def _upper_snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).upper()
