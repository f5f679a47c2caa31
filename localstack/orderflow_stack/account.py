"""Deploys the template into an AWS account, one function's code alone, and deletes a stack.

In: the AWS settings of the caller, the name of a stack, parameters of the template. Out: a deployed stack and the URL
of its API on the screen, or a `StackError` with what failed.
Guarantees: nothing is built or changed before it is known who is calling, where, and whether a parameter is missing; a
parameter that is not named keeps its value, unless that was the default, which may be another one now; a deployment
that fails is rolled back by CloudFormation.
"""

import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from awscli.customizations.cloudformation.yamlhelper import yaml_dump, yaml_parse
from botocore.exceptions import BotoCoreError, ClientError

from orderflow_stack import aws, binaries
from orderflow_stack.errors import StackError
from orderflow_stack.function_versions import ALIAS, mark_changes
from orderflow_stack.index_steps import Template, plan_deployments
from orderflow_stack.paths import LOCAL_DIRECTORY, REPOSITORY
from orderflow_stack.state import State
from orderflow_stack.virtual_environment import STACK_ENVIRONMENT

CAPABILITIES = ("CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND")
# Not the functions' own, and not built for Lambda.
NOT_DEPLOYED = ("cli", "bench", "e2e", "sim", "simulated-aws")
DEPLOY_TIMEOUT_SECONDS = 3600
POLL_INTERVAL_SECONDS = 1
CARGO_LAMBDA = REPOSITORY / "localstack" / "cargo_lambda.py"


@dataclass(frozen=True)
class Account:
    """Who is calling, and where."""

    number: str
    region: str
    session: Any

    @staticmethod
    def of_caller(region: str | None) -> "Account":
        session = boto3.Session(region_name=region)
        if not session.region_name:
            raise StackError("no AWS region: name it by REGION=..., AWS_REGION or the AWS profile")
        try:
            caller = session.client("sts").get_caller_identity()
        except (BotoCoreError, ClientError) as error:
            raise StackError(
                f"AWS does not know who calls: sign in (`aws sso login`), or name a profile by AWS_PROFILE; {error}"
            ) from None
        return Account(caller["Account"], session.region_name, session)

    def client(self, service: str) -> Any:
        return self.session.client(service)

    def run_cli(self, *arguments: str) -> str:
        """Runs the AWS CLI as the caller; what it says is returned."""
        region = {"AWS_DEFAULT_REGION": self.region, "AWS_REGION": self.region, "AWS_PAGER": ""}
        return aws.run_cli_with(region, *arguments)


def deploy(account: Account, stack: str, parameters: dict[str, str], bin_dir: Path | None) -> None:
    deployed = _describe(account, stack)
    if deployed is None and "MailMode" not in parameters:
        raise StackError(
            f"{stack} is not deployed in {account.region} yet, and MailMode has no default: name it by "
            'PARAMS="MailMode=ses MailFrom=shop@example.com"'
        )
    template = _stage(stack, bin_dir) if bin_dir else _build()
    _refuse_unknown_parameters(template, parameters)
    bucket = _ensure_bucket(account)
    print(f"Deploying {stack} to {account.number} in {account.region} ...", flush=True)
    packaged = _directory(stack) / "packaged.yaml"
    account.run_cli(
        *("cloudformation", "package", "--template-file", str(template)),
        *("--s3-bucket", bucket, "--s3-prefix", stack, "--output-template-file", str(packaged)),
    )
    if deployed is None:
        packaged.write_text(yaml_dump(mark_changes(yaml_parse(packaged.read_text()), parameters)))
        steps = [(packaged, parameters)]
    else:
        steps = _plan_steps(account, deployed, packaged, parameters)
    for number, (step, of_step) in enumerate(steps, start=1):
        if len(steps) > 1:
            print(f"Step {number} of {len(steps)}: a table takes one new or deleted index at a time ...", flush=True)
        _deploy_template(account, stack, bucket, step, of_step)
    url = _api_url(account, stack)
    print(f"The API: {url}\nTry it: make smoke API_URL={url}", flush=True)


def _plan_steps(
    account: Account, stack: dict[str, Any], packaged: Path, parameters: dict[str, str]
) -> list[tuple[Path, dict[str, str]]]:
    """The templates to deploy one after the other, each with its parameters; the last is the packaged one."""
    described = account.client("cloudformation").get_template(StackName=stack["StackName"], TemplateStage="Original")
    body = described["TemplateBody"]
    deployed = yaml_parse(body) if isinstance(body, str) else body
    wanted = yaml_parse(packaged.read_text())
    current = {one["ParameterKey"]: one["ParameterValue"] for one in stack.get("Parameters", [])}
    parameters = _renew_defaults(deployed, wanted, current) | parameters
    wanted = mark_changes(wanted, current | parameters)
    packaged.write_text(yaml_dump(wanted))
    plan = plan_deployments(deployed, wanted)
    steps = []
    for number, template in enumerate([*plan.before, *plan.then[:-1]], start=1):
        file = packaged.with_name(f"step-{number}.yaml")
        file.write_text(yaml_dump(template))
        steps.append((file, {} if number <= len(plan.before) else parameters))
    return [*steps, (packaged, parameters)]


def _renew_defaults(deployed: Template, wanted: Template, current: dict[str, str]) -> dict[str, str]:
    """What nobody has chosen becomes today's default: CloudFormation would keep that of the older template, which
    may be out of bounds by now."""
    renewed = {}
    for name, parameter in wanted["Parameters"].items():
        before, now = deployed["Parameters"].get(name, {}).get("Default"), parameter.get("Default")
        if None not in (before, now) and before != now and current.get(name) == str(before):
            print(f"{name}: {before} was the default, and becomes {now}", flush=True)
            renewed[name] = str(now)
    return renewed


def _deploy_template(account: Account, stack: str, bucket: str, template: Path, parameters: dict[str, str]) -> None:
    output = account.run_cli(
        *("cloudformation", "deploy", "--template-file", str(template), "--no-execute-changeset"),
        *("--stack-name", stack, "--no-fail-on-empty-changeset", "--s3-bucket", bucket, "--s3-prefix", stack),
        *("--capabilities", *CAPABILITIES),
        *(("--parameter-overrides", *(f"{key}={value}" for key, value in parameters.items())) if parameters else ()),
    )
    # Where there is nothing to change there is no change set.
    if change_set := re.search(r"arn:aws[a-z-]*:cloudformation:\S+:changeSet/\S+", output):
        account.client("cloudformation").execute_change_set(ChangeSetName=change_set[0])
        _wait_until_deployed(account, stack)
    else:
        print("Nothing has changed since the last deployment.", flush=True)


def deploy_function(account: Account, stack: str, function: str, bin_dir: Path | None) -> None:
    """Deploys the code of one function, which keeps its configuration, as a new version that is in force then."""
    if _describe(account, stack) is None:
        raise StackError(f"{stack} is not deployed in {account.region}: `make deploy STACK={stack}` deploys it")
    functions = binaries.CODE_URI.findall(binaries.TEMPLATE.read_text())
    if function not in functions:
        raise StackError(f"there is no function {function}: there are {', '.join(functions)}")
    if bin_dir is None:
        _run_cargo_lambda("build", "--release", "--arm64", "--workspace", "--bin", function)
    place = ("--lambda-dir", str(_place_binary(stack, function, bin_dir))) if bin_dir else ()
    names = (f"{stack}-{function}", "--binary-name", function, "--alias", ALIAS)
    _run_cargo_lambda("deploy", *names, "--region", account.region, *place)


def destroy(account: Account, stack: str, yes: bool) -> None:
    """Deletes a stack. Its tables stay, as the template says."""
    deployed = _describe(account, stack)
    if deployed is None:
        raise StackError(f"{stack} is not deployed in {account.region}")
    outputs = {output["OutputKey"]: output["OutputValue"] for output in deployed.get("Outputs", [])}
    tables = sorted(value for key, value in outputs.items() if key.endswith("Table"))
    print(
        f"This deletes {stack} of {account.number} in {account.region}: its API, functions, queues and their messages."
    )
    print(f"Its tables stay, with all that is in them: {', '.join(tables)}.")
    if not yes and input("Type the stack's name to delete it: ") != stack:
        raise StackError("nothing is deleted: that is not its name")
    cloudformation = account.client("cloudformation")
    cloudformation.delete_stack(StackName=stack)
    deadline = time.monotonic() + DEPLOY_TIMEOUT_SECONDS
    while (left := _describe(account, stack)) is not None and left["StackStatus"] != "DELETE_COMPLETE":
        if left["StackStatus"] == "DELETE_FAILED":
            raise StackError(f"{stack} is not deleted wholly:\n{_list_failed_events(cloudformation, stack)}")
        if time.monotonic() > deadline:
            raise StackError(f"the deletion is not done after {DEPLOY_TIMEOUT_SECONDS} s")
        time.sleep(POLL_INTERVAL_SECONDS)
    print(
        f"{stack} is deleted. A new stack of that name makes new tables; docs/aws.md says how to delete the old ones."
    )


def _build() -> Path:
    excluded = [word for package in NOT_DEPLOYED for word in ("--exclude", package)]
    _run_cargo_lambda("build", "--release", "--arm64", "--workspace", *excluded)
    return binaries.TEMPLATE


def _stage(stack: str, bin_dir: Path) -> Path:
    state = State(_directory(stack))
    binaries.stage(state, bin_dir)
    return state.template


def _place_binary(stack: str, function: str, bin_dir: Path) -> Path:
    """A folder with this binary as `cargo lambda build` would leave it."""
    source, folder = bin_dir / function, _directory(stack) / "lambda"
    bootstrap = folder / function / "bootstrap"
    bootstrap.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source / "bootstrap" if source.is_dir() else source, bootstrap)
    return folder


def _directory(stack: str) -> Path:
    directory = LOCAL_DIRECTORY / "deploy" / stack
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _run_cargo_lambda(*arguments: str) -> None:
    try:
        subprocess.run(["cargo", "--version"], stdout=subprocess.DEVNULL, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        raise StackError("cargo is not installed (https://rustup.rs)") from None
    command = [str(STACK_ENVIRONMENT.program("python")), str(CARGO_LAMBDA), *arguments]
    if subprocess.run(command, cwd=REPOSITORY, check=False).returncode != 0:
        raise StackError(f"cargo lambda {arguments[0]} failed")


def _refuse_unknown_parameters(template: Path, parameters: dict[str, str]) -> None:
    # The AWS CLI drops them in silence.
    known = re.search(r"^Parameters:\n(.*?)^\S", template.read_text(), re.MULTILINE | re.DOTALL)
    names = set(re.findall(r"^  (\w+):$", known[1], re.MULTILINE)) if known else set()
    if unknown := parameters.keys() - names:
        raise StackError(f"the template has no parameter {', '.join(sorted(unknown))}")


def _ensure_bucket(account: Account) -> str:
    """The bucket that the functions' code is uploaded to: one for all stacks of an account and region."""
    bucket = f"orderflow-code-{account.number}-{account.region}"
    s3 = account.client("s3")
    try:
        s3.head_bucket(Bucket=bucket)
    except ClientError:
        # us-east-1 is the one region that must not be named.
        place = {} if account.region == "us-east-1" else {"LocationConstraint": account.region}
        s3.create_bucket(Bucket=bucket, **({"CreateBucketConfiguration": place} if place else {}))
    return bucket


def _describe(account: Account, stack: str) -> dict[str, Any] | None:
    """None if there is no such stack."""
    try:
        stacks = account.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
    except ClientError as error:
        if "does not exist" in str(error):
            return None
        raise StackError(f"CloudFormation does not describe {stack}: {error}") from None
    # One that was never more than a change set is none.
    is_deployed = stacks and stacks[0]["StackStatus"] not in ("REVIEW_IN_PROGRESS", "DELETE_COMPLETE")
    return dict(stacks[0]) if is_deployed else None


def _wait_until_deployed(account: Account, stack: str) -> None:
    cloudformation = account.client("cloudformation")
    deadline = time.monotonic() + DEPLOY_TIMEOUT_SECONDS
    while (status := (_describe(account, stack) or {}).get("StackStatus", "_IN_PROGRESS")).endswith("_IN_PROGRESS"):
        if time.monotonic() > deadline:
            raise StackError(f"the deployment is not done after {DEPLOY_TIMEOUT_SECONDS} s: {status}")
        time.sleep(POLL_INTERVAL_SECONDS)
    if status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        raise StackError(f"the deployment ended in {status}:\n{_list_failed_events(cloudformation, stack)}")


def _list_failed_events(cloudformation: Any, stack: str) -> str:
    events = cloudformation.describe_stack_events(StackName=stack)["StackEvents"]
    return "\n".join(
        f"  {event['LogicalResourceId']}: {event.get('ResourceStatusReason', '')}"
        for event in events
        if event["ResourceStatus"].endswith("FAILED")
    )


def _api_url(account: Account, stack: str) -> str:
    deployed = _describe(account, stack) or {}
    outputs = {output["OutputKey"]: output["OutputValue"] for output in deployed.get("Outputs", [])}
    api, stage = outputs["ApiId"], outputs["ApiStage"]
    # An emulator is called by its own address.
    if emulator := os.environ.get("AWS_ENDPOINT_URL"):
        return f"{emulator}/restapis/{api}/{stage}/_user_request_"
    suffix = "amazonaws.com.cn" if account.region.startswith("cn-") else "amazonaws.com"
    return f"https://{api}.execute-api.{account.region}.{suffix}/{stage}"
