"""Tests deploy.py and `smoke`, and that two shops in one account do not touch each other.

    python3 localstack/stack.py with -- python3 localstack/tests/account.py BIN_DIR

In: `ORDERFLOW_STACK`, the settings file of a stack that is the first shop; the functions' binaries. Out: exit status 1
at the first thing that is not as it should be. The second shop is deployed beside it into the same emulator, as into an
account.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from orderflow_stack.function_versions import ALIAS
from orderflow_stack.paths import REPOSITORY
from orderflow_stack.virtual_environment import enter_stack_environment

SECOND = "second-shop"
# What an account has once, whoever asks for it, and what has its name within its API only.
NOT_OF_THE_ACCOUNT = {"AWS::ApiGateway::Account", "AWS::ApiGateway::Stage"}
# That it was received, confirmed and cancelled.
MAILS_OF_A_CANCELLED_ORDER = 3
MAILED_WITHIN_SECONDS = 60
POLL_INTERVAL_SECONDS = 0.5
COUNTS_OF_MESSAGES = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)
PARAMETERS = {
    "MailMode": "console",
    "Architecture": "arm64" if platform.machine().lower() in ("arm64", "aarch64") else "x86_64",
    "Observability": "basic",
    "RetrySchedule": "1,2,4,8",
}


def run_deploy(*words: str, answer: str = "") -> tuple[int, str]:
    result = subprocess.run(
        [sys.executable, str(REPOSITORY / "localstack" / "deploy.py"), *words],
        input=answer,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return result.returncode, result.stdout


def expect(subject: str, ran: tuple[int, str], code: int, said: str) -> str:
    if ran[0] != code or said not in ran[1]:
        sys.exit(f"error: {subject}: wanted exit {code} and {said!r}, got exit {ran[0]}:\n{ran[1]}")
    print(f"ok: {subject}", flush=True)
    return ran[1]


def with_parameters(parameters: dict[str, str]) -> list[str]:
    return [word for key, value in parameters.items() for word in ("--param", f"{key}={value}")]


def list_resources(cloudformation: Any, stack: str) -> Iterator[tuple[str, str]]:
    pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack)
    for page in pages:
        for resource in page["StackResourceSummaries"]:
            if resource["ResourceType"] not in NOT_OF_THE_ACCOUNT:
                yield resource["ResourceType"], resource.get("PhysicalResourceId", "")


def read_outputs(cloudformation: Any, stack: str) -> dict[str, str]:
    outputs = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]["Outputs"]
    return {output["OutputKey"]: output["OutputValue"] for output in outputs}


def expect_in_force(subject: str, functions: Any, function: str, version: str, log_level: str) -> None:
    name = f"{SECOND}-{function}"
    alias = functions.get_alias(FunctionName=name, Name=ALIAS)["FunctionVersion"]
    configuration = functions.get_function_configuration(FunctionName=name, Qualifier=ALIAS)
    seen = (alias, configuration["Environment"]["Variables"]["LOG_LEVEL"])
    if seen != (version, log_level):
        sys.exit(f"error: {subject}: wanted version {version} with {log_level}, got {seen}")
    print(f"ok: {subject}", flush=True)


def check_parameters(functions: Any, cloudformation: Any, up: tuple[str, ...]) -> None:
    """What is named changes, and is published; nothing else does or is."""
    expect_in_force("what was deployed is in force", functions, "order-api", "1", "info")
    expect("one parameter is changed", run_deploy(*up, "--param", "LogLevel=debug"), 0, "The API: http")
    expect_in_force("its value is in force", functions, "order-api", "2", "debug")
    expect(
        "a parameter of one function is changed", run_deploy(*up, "--param", "MailMaxAgeDays=13"), 0, "The API: http"
    )
    expect_in_force("no other function has a new version", functions, "order-api", "2", "debug")
    expect_in_force("that function has one", functions, "notification-consumer", "3", "debug")
    described = cloudformation.describe_stacks(StackName=SECOND)["Stacks"][0]["Parameters"]
    deployed = {parameter["ParameterKey"]: parameter["ParameterValue"] for parameter in described}
    wanted = PARAMETERS | {"LogLevel": "debug", "MailMaxAgeDays": "13"}
    if not wanted.items() <= deployed.items():
        sys.exit(f"error: a parameter that was not named did not keep its value: {deployed}")


def check_one_function(functions: Any, bin_dir: Path, smoke: tuple[str, ...]) -> None:
    """Its code is deployed and rolled back, with another function's binary for one that is broken."""
    broken = Path(os.environ["ORDERFLOW_STACK"]).with_name("broken")
    broken.mkdir(exist_ok=True)
    shutil.copy(bin_dir / "product-api", broken / "order-api")
    deploy = ("function", "--stack", SECOND, "--function", "order-api", "--bin-dir")
    expect("one function is deployed", run_deploy(*deploy, str(broken)), 0, "")
    expect_in_force("its new version is in force", functions, "order-api", "3", "debug")
    expect("it answers nothing", run_deploy(*smoke), 1, "should be 200 and is 502")
    functions.update_alias(FunctionName=f"{SECOND}-order-api", Name=ALIAS, FunctionVersion="2")
    expect("its alias rolls it back", run_deploy(*smoke), 0, "Everything went as it should")
    expect("its code is deployed again", run_deploy(*deploy, str(bin_dir)), 0, "")
    expect_in_force("that is in force", functions, "order-api", "4", "debug")
    expect("it takes orders", run_deploy(*smoke), 0, "Everything went as it should")


def check_refusals(up: tuple[str, ...], region: str) -> None:
    del os.environ["AWS_REGION"]
    expect("no region is said", run_deploy(*up), 1, "no AWS region: name it by REGION=")
    os.environ["AWS_REGION"] = region
    expect("a first deployment without MailMode is refused", run_deploy(*up), 1, "MailMode has no default")
    unknown = with_parameters(PARAMETERS | {"MailMod": "ses"})
    expect("an unknown parameter is refused", run_deploy(*up, *unknown), 1, "the template has no parameter MailMod")


def check_mails(cloudformation: Any, priority_queue: str, smoke: tuple[str, ...]) -> None:
    """An order is mailed about as often as always, by whichever queue it comes."""
    import boto3

    from orderflow_stack.demo import MAIL_BEGINS

    region = os.environ["AWS_REGION"]
    sqs, logs = boto3.client("sqs", region_name=region), boto3.client("logs", region_name=region)

    def count_mails() -> int:
        pages = logs.get_paginator("filter_log_events").paginate(
            logGroupName=f"/aws/lambda/{SECOND}-notification-consumer"
        )
        return sum(event["message"].count(MAIL_BEGINS) for page in pages for event in page["events"])

    def count_messages(queue_url: str) -> int:
        attributes = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["All"])["Attributes"]
        return sum(int(attributes[name]) for name in COUNTS_OF_MESSAGES)

    outputs = read_outputs(cloudformation, SECOND)
    queues = [url for name, url in outputs.items() if re.fullmatch("Notification(Priority)?(Queue|Dlq)Url", name)]
    wanted = 2 if priority_queue == "off" else 4
    if len(queues) != wanted:
        sys.exit(f"error: with PriorityQueue={priority_queue} there should be {wanted} queues of mails: {queues}")
    before = count_mails()
    expect("an order is placed", run_deploy(*smoke), 0, "Everything went as it should")
    deadline = time.monotonic() + MAILED_WITHIN_SECONDS
    while sum(map(count_messages, queues)) > 0 or count_mails() < before + MAILS_OF_A_CANCELLED_ORDER:
        if time.monotonic() > deadline:
            sys.exit(f"error: {count_mails() - before} mails about an order after {MAILED_WITHIN_SECONDS} s")
        time.sleep(POLL_INTERVAL_SECONDS)
    if (mails := count_mails() - before) != MAILS_OF_A_CANCELLED_ORDER:
        sys.exit(f"error: {mails} mails about an order, and not {MAILS_OF_A_CANCELLED_ORDER}")
    print(
        f"ok: with PriorityQueue={priority_queue} each event of an order with high priority is mailed once", flush=True
    )


def switch_priority(cloudformation: Any, emulator: Any, up: tuple[str, ...], smoke: tuple[str, ...]) -> None:
    """Goes the way of docs/priority.md, there and back, with orders that all have high priority."""
    for value in ("starting", "on", "starting", "off"):
        said = run_deploy(*up, *with_parameters({"PriorityQueue": value, "PriorityTotal": "0"}))
        expect(f"PriorityQueue={value} is deployed", said, 0, "The API: http")
        emulator.complete_deployment(read_outputs(cloudformation, SECOND))
        check_mails(cloudformation, value, smoke)


def main() -> None:
    enter_stack_environment()
    # Not at the top: only the stack's environment has it for certain.
    import boto3

    from orderflow_stack.emulator_selection import select_emulator
    from orderflow_stack.state import State

    bin_dir = str(Path(sys.argv[1]).resolve())
    lines = Path(os.environ["ORDERFLOW_STACK"]).read_text().splitlines()
    settings = dict(line.split("=", 1) for line in lines)
    first = settings["STACK_NAME"]
    # As a caller's own settings would name an account.
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    up = ("up", "--stack", SECOND, "--bin-dir", bin_dir)
    os.environ.update({key: value for key, value in settings.items() if key.startswith("AWS_")})
    os.environ["AWS_ENDPOINT_URL"] = settings["EMULATOR_URL"]

    region = os.environ["AWS_REGION"]
    check_refusals(up, region)

    said = expect("a second shop is deployed", run_deploy(*up, *with_parameters(PARAMETERS)), 0, "The API: http")
    second_url = next(line for line in said.splitlines() if line.startswith("The API: ")).removeprefix("The API: ")
    expect("what has not changed is not deployed", run_deploy(*up), 0, "Nothing has changed")
    functions, cloudformation = (boto3.client(name, region_name=region) for name in ("lambda", "cloudformation"))
    check_parameters(functions, cloudformation, up)
    emulator = select_emulator(State(Path(os.environ["ORDERFLOW_STACK"]).parent))
    emulator.complete_deployment(read_outputs(cloudformation, SECOND))

    shared = set(list_resources(cloudformation, first)) & set(list_resources(cloudformation, SECOND))
    if shared:
        sys.exit(f"error: both shops have {sorted(shared)}")
    print("ok: no resource is of both shops", flush=True)

    # One after the other, so that what crosses over is seen.
    dynamodb = boto3.client("dynamodb", region_name=region)
    first_orders = read_outputs(cloudformation, first)["OrdersTable"]
    smoke = ("smoke", "--email", "smoke@example.com", "--api-url")
    expect("the second shop takes an order", run_deploy(*smoke, second_url), 0, "Everything went as it should")
    if found := dynamodb.scan(TableName=first_orders)["Count"]:
        sys.exit(f"error: the first shop has {found} orders of the second")
    print("ok: the first shop has none of its orders", flush=True)
    with ThreadPoolExecutor() as both:
        ran = both.map(lambda url: run_deploy(*smoke, url), [settings["API_URL"], second_url])
    for name, one in zip((first, SECOND), ran, strict=True):
        expect(f"{name} takes orders while the other does", one, 0, "Everything went as it should")
    expect("an API that is not there fails", run_deploy(*smoke, f"{second_url}/none"), 1, "should be 200")

    check_one_function(functions, Path(bin_dir), (*smoke, second_url))
    switch_priority(cloudformation, emulator, up, (*smoke, second_url))

    refused = run_deploy("destroy", "--stack", SECOND, answer="no\n")
    expect("a stack is not deleted by another word than its name", refused, 1, "nothing is deleted")
    expect(
        "a stack is deleted by its name", run_deploy("destroy", "--stack", SECOND, answer=f"{SECOND}\n"), 0, "deleted"
    )
    expect("it is gone", run_deploy("destroy", "--stack", SECOND, "--yes"), 1, "is not deployed")
    expect("the first shop goes on", run_deploy(*smoke, settings["API_URL"]), 0, "Everything went as it should")


if __name__ == "__main__":
    main()
