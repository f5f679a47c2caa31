"""Tests that a shop of the first release becomes one of today: its template, with its data, is brought up to date.

    python3 localstack/stack.py with -- python3 localstack/tests/upgrade.py BIN_DIR

In: `ORDERFLOW_STACK`, the settings file of a stack, of which only the emulator is used; the functions' binaries; the
folder first_release beside this, with the template of the first release and the items that its functions have written.
Out: exit status 1 at the first thing that is lost, not read, or not as it should be.
"""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from orderflow_stack.function_versions import ALIAS
from orderflow_stack.paths import REPOSITORY
from orderflow_stack.virtual_environment import enter_stack_environment

FIRST_RELEASE = Path(__file__).with_name("first_release")
STACK = "upgraded"
PARAMETERS = {
    "MailMode": "console",
    "Architecture": "arm64" if platform.machine().lower() in ("arm64", "aarch64") else "x86_64",
    "RetrySchedule": "1,2,4,8",
}
WAIT_TIMEOUT_SECONDS = 60
MARKER_SECONDS = 30 * 24 * 60 * 60
# Twenty, of which the confirmed order has two and the shipped one one; three of the cancelled one came back.
STOCK = 17


def expect(subject: str, seen: Any, wanted: Any) -> None:
    if seen != wanted:
        sys.exit(f"error: {subject}: wanted {wanted!r}, got {seen!r}")
    print(f"ok: {subject}", flush=True)


def wait_for(subject: str, wanted: Any, look: Callable[[], Any]) -> None:
    begun = time.monotonic()
    while (seen := look()) != wanted and time.monotonic() - begun < WAIT_TIMEOUT_SECONDS:
        time.sleep(0.2)
    expect(subject, seen, wanted)


def check_steps(deployed: str, wanted: str) -> int:
    """No step may change two indexes of one table, which AWS would refuse. Returns the number of steps."""
    from awscli.customizations.cloudformation.yamlhelper import yaml_parse

    from orderflow_stack.index_steps import count_index_changes, plan_deployments

    before = yaml_parse(deployed)
    plan = plan_deployments(before, yaml_parse(wanted))
    for number, step in enumerate([*plan.before, *plan.then], start=1):
        changes = count_index_changes(before, step)
        if max(changes.values()) > 1:
            sys.exit(f"error: step {number} changes {changes}")
        before = step
    print("ok: each step changes one index of a table at most", flush=True)
    return len(plan.before) + len(plan.then)


def deploy_first_release(url: str, package: Path) -> None:
    """With today's code, of which nothing runs before it is configured as today."""
    from orderflow_stack import aws
    from orderflow_stack.binaries import CODE_URI
    from orderflow_stack.deployment import BUCKET, CAPABILITIES

    template = package / "first-release.yaml"
    template.write_text(CODE_URI.sub(r"CodeUri: ./\1.zip", (FIRST_RELEASE / "template.yaml").read_text()))
    packaged = package / "first-release-packaged.yaml"
    aws.run_cli(
        url,
        *("cloudformation", "package", "--template-file", str(template)),
        *("--s3-bucket", BUCKET, "--output-template-file", str(packaged)),
    )
    cloudformation = aws.create_client("cloudformation", url)
    cloudformation.create_stack(
        StackName=STACK,
        TemplateBody=packaged.read_text(),
        Capabilities=list(CAPABILITIES),
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in PARAMETERS.items()],
    )
    cloudformation.get_waiter("stack_create_complete").wait(StackName=STACK, WaiterConfig={"Delay": 1})


def read_outputs(cloudformation: Any) -> dict[str, str]:
    outputs = cloudformation.describe_stacks(StackName=STACK)["Stacks"][0]["Outputs"]
    return {output["OutputKey"]: output["OutputValue"] for output in outputs}


def write_items(dynamodb: Any, outputs: dict[str, str], tables: dict[str, list[dict[str, Any]]]) -> None:
    for table, items in tables.items():
        for item in items:
            if "expires_at" in item:
                # As if it had been written today.
                item["expires_at"] = {"N": str(int(time.time()) + MARKER_SECONDS)}
            dynamodb.put_item(TableName=outputs[table], Item=item)


def upgrade(bin_dir: str) -> str:
    words = ["up", "--stack", STACK, "--bin-dir", bin_dir, "--param", "Observability=basic"]
    deploy = [sys.executable, str(REPOSITORY / "localstack" / "deploy.py"), *words]
    result = subprocess.run(deploy, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        sys.exit(f"error: the upgrade failed:\n{result.stdout}{result.stderr}")
    return result.stdout


def main() -> None:
    enter_stack_environment()
    from orderflow_stack import aws
    from orderflow_stack.binaries import TEMPLATE
    from orderflow_stack.emulator_selection import select_emulator
    from orderflow_stack.state import State

    directory = Path(os.environ["ORDERFLOW_STACK"]).parent
    lines = Path(os.environ["ORDERFLOW_STACK"]).read_text().splitlines()
    settings = dict(line.split("=", 1) for line in lines)
    os.environ.update({key: value for key, value in settings.items() if key.startswith("AWS_")})
    url = os.environ["AWS_ENDPOINT_URL"] = settings["EMULATOR_URL"]
    released = json.loads((FIRST_RELEASE / "items.json").read_text())

    steps = check_steps((FIRST_RELEASE / "template.yaml").read_text(), TEMPLATE.read_text())
    deploy_first_release(url, directory / "package")
    cloudformation = aws.create_client("cloudformation", url)
    write_items(aws.create_client("dynamodb", url), read_outputs(cloudformation), released["tables"])
    said = upgrade(str(Path(sys.argv[1]).resolve()))
    expect("the stack is brought up to date step by step", f"Step {steps} of {steps}:" in said, True)
    outputs = read_outputs(cloudformation)
    emulator = select_emulator(State(directory))
    emulator.complete_deployment(outputs)
    mappings = aws.create_client("lambda", url).list_event_source_mappings()["EventSourceMappings"]
    of_stack = [one["FunctionArn"] for one in mappings if f":{STACK}-" in one["FunctionArn"]]
    expect("every queue is fed to an alias", {arn.rsplit(":", 1)[1] for arn in of_stack}, {ALIAS})
    check_shop(url, emulator.build_api_url(outputs["ApiId"], outputs["ApiStage"]), outputs, released)


def check_shop(url: str, api: str, outputs: dict[str, str], released: dict[str, Any]) -> None:
    from orderflow_stack import aws
    from orderflow_stack.api_call import OF_EMULATOR, ApiCall

    dynamodb, sqs = aws.create_client("dynamodb", url), aws.create_client("sqs", url)
    wanted = {"pending", "awaiting_payment", "by_customer_keys"}
    described = dynamodb.describe_table(TableName=outputs["OrdersTable"])["Table"]
    expect("orders have today's indexes", {i["IndexName"] for i in described["GlobalSecondaryIndexes"]}, wanted)
    for table, items in released["tables"].items():
        kept = dynamodb.scan(TableName=outputs[table])["Count"]
        expect(f"nothing of {table} is lost", kept, len(items))

    orders, product = released["orders"], f"{api}/products/{released['product']}"

    def status(order: str) -> str:
        return str(ApiCall("GET", f"{api}/orders/{orders[order]}").send()["status"])

    def stock() -> int:
        return int(ApiCall("GET", product).send()["stock"])

    for order in orders:
        expect(f"the {order} order is read", status(order), order)
        history = ApiCall("GET", f"{api}/orders/{orders[order]}/events", signer=OF_EMULATOR).send()
        expect(f"and its history, from {order}'s first event", history["events"][0]["event_type"], "OrderCreated")
    expect("the stock is what it was", stock(), STOCK)
    listed = ApiCall("GET", f"{api}/orders?customer_email=anna@example.com", signer=OF_EMULATOR).send()
    expect("a customer's orders are found by the new index", len(listed["orders"]), 4)

    # What was on a queue meanwhile: an event that today's functions have not written.
    def send(event_type: str, order: str, queue: str) -> None:
        events = (item["body"]["S"] for item in released["tables"]["EventLogTable"])
        of_order = (body for body in events if orders[order] in body)
        event = next(body for body in of_order if f'"event_type":"{event_type}"' in body)
        sqs.send_message(QueueUrl=outputs[queue], MessageBody=event)

    send("OrderCreated", "pending", "ProductQueueUrl")
    wait_for("an old event is handled: the pending order settles", "confirmed", lambda: status("pending"))
    expect("and has its stock", stock(), STOCK - 4)
    # What was handled before is a duplicate still.
    send("OrderCreated", "confirmed", "ProductQueueUrl")
    send("StockReserved", "confirmed", "OrderQueueUrl")
    wait_for("the product queue is empty", 0, lambda: count_messages(sqs, outputs["ProductQueueUrl"]))
    wait_for("the order queue is empty", 0, lambda: count_messages(sqs, outputs["OrderQueueUrl"]))
    expect("an old event that comes again takes no stock", stock(), STOCK - 4)
    for queue in ("ProductDlqUrl", "OrderDlqUrl", "NotificationDlqUrl"):
        expect(f"nothing is on {queue}", count_messages(sqs, outputs[queue]), 0)

    cancel = ApiCall("POST", f"{api}/admin/orders/{orders['confirmed']}/cancel", signer=OF_EMULATOR)
    expect("an old order is cancelled", cancel.send()["status"], "cancelled")
    wait_for("and its stock comes back", STOCK - 4 + 2, stock)


def count_messages(sqs: Any, queue: str) -> int:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    return sum(int(n) for n in sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"].values())


if __name__ == "__main__":
    main()
