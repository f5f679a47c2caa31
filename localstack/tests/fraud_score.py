"""Tests examples/fraud-score as its README says it is used, with a shop that knows nothing of it.

    python3 localstack/stack.py with -- python3 localstack/tests/fraud_score.py

In: `ORDERFLOW_STACK`, the settings file of a stack. Out: exit status 1 at the first thing that is not as it should be.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from orderflow_stack.paths import CACHE_DIRECTORY, REPOSITORY
from orderflow_stack.virtual_environment import VirtualEnvironment, enter_stack_environment, find_base_python

EXAMPLE = REPOSITORY / "examples" / "fraud-score"
ENVIRONMENT = VirtualEnvironment(
    CACHE_DIRECTORY / "fraud-score", EXAMPLE / "requirements.txt", "what fraud-score needs", has_hashes=False
)
STACK = "fraud-score"
WAIT_TIMEOUT_SECONDS = 60


def wait_for(subject: str, look: Callable[[], Any]) -> Any:
    begun = time.monotonic()
    while not (seen := look()):
        if time.monotonic() - begun > WAIT_TIMEOUT_SECONDS:
            sys.exit(f"error: waited {WAIT_TIMEOUT_SECONDS} s in vain for {subject}")
        time.sleep(0.2)
    print(f"ok: {subject}", flush=True)
    return seen


def deploy_example(cloudformation: Any, topic: str) -> dict[str, str]:
    cloudformation.create_stack(
        StackName=STACK,
        TemplateBody=(EXAMPLE / "template.yaml").read_text(),
        Parameters=[
            {"ParameterKey": "TopicArn", "ParameterValue": topic},
            # What fails is to come again, and to be dead, soon.
            {"ParameterKey": "VisibilityTimeoutSeconds", "ParameterValue": "2"},
        ],
    )
    cloudformation.get_waiter("stack_create_complete").wait(StackName=STACK, WaiterConfig={"Delay": 1})
    described = cloudformation.describe_stacks(StackName=STACK)["Stacks"][0]["Outputs"]
    return {output["OutputKey"]: output["OutputValue"] for output in described}


def main() -> None:
    enter_stack_environment()
    # Not at the top: only the stack's environment has it for certain.
    import boto3

    from orderflow_stack.api_call import OF_EMULATOR, ApiCall

    lines = Path(os.environ["ORDERFLOW_STACK"]).read_text().splitlines()
    settings = dict(line.split("=", 1) for line in lines)
    os.environ.update({key: value for key, value in settings.items() if key.startswith("AWS_")})
    os.environ["AWS_ENDPOINT_URL"] = settings["EMULATOR_URL"]
    api, region = settings["API_URL"], settings["AWS_REGION"]
    outputs = deploy_example(boto3.client("cloudformation", region_name=region), settings["TOPIC_ARN"])
    sqs = boto3.client("sqs", region_name=region)

    def count(queue: str) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        counted = sqs.get_queue_attributes(QueueUrl=outputs[queue], AttributeNames=names)["Attributes"]
        return sum(int(number) for number in counted.values())

    def place(price: int, quantity: int) -> str:
        product = {"name": "Scored", "price": price, "stock": 1000}
        created = ApiCall("POST", f"{api}/products", product, OF_EMULATOR).send()
        items = [{"product_id": created["id"], "quantity": quantity}]
        order = ApiCall("POST", f"{api}/orders", {"customer_email": "scored@example.com", "items": items}).send()
        return str(order["id"])

    def tags(order: str) -> list[str]:
        return list(ApiCall("GET", f"{api}/admin/orders/{order}", signer=OF_EMULATOR).send()["tags"])

    # Before it runs: the queue keeps what comes.
    plain, expensive, many = place(10, 1), place(9000, 2), place(1000, 100)
    wait_for("three orders on the queue of the example", lambda: count("QueueUrl") == 3)
    ENVIRONMENT.install_if_outdated(find_base_python())
    of_process = {
        "QUEUE_URL": outputs["QueueUrl"],
        "API_URL": api,
        "ASYNCAPI": str(REPOSITORY / "docs/asyncapi.yaml"),
        # An emulator does not end a wait when a message's visibility timeout ends.
        "WAIT_SECONDS": "1",
    }
    process = subprocess.Popen(
        [str(ENVIRONMENT.program("python")), str(EXAMPLE / "fraud_score.py")], env=os.environ | of_process
    )
    try:
        wait_for("the expensive order to be tagged", lambda: tags(expensive) == ["suspicious"])
        wait_for("the order of many pieces to be tagged", lambda: tags(many) == ["suspicious"])
        wait_for("all orders to be handled", lambda: count("QueueUrl") == 0)
        if tags(plain):
            sys.exit(f"error: an order like others is tagged: {tags(plain)}")
        # A tag that somebody has given stays beside it, and an event that comes twice changes nothing.
        ApiCall("PUT", f"{api}/orders/{many}/tags", {"tags": ["suspicious", "vip"]}, OF_EMULATOR).send()
        history = json.loads(ApiCall("GET", f"{api}/orders/{many}/events", signer=OF_EMULATOR).send().body)
        event = next(event for event in history["events"] if event["event_type"] == "OrderCreated")
        sqs.send_message(QueueUrl=outputs["QueueUrl"], MessageBody=json.dumps(event))
        # What is no event stays, and is tried again until it is dead.
        sqs.send_message(QueueUrl=outputs["QueueUrl"], MessageBody='{"event_type": "OrderCreated", "data": {}}')
        wait_for("what is no event to be on the DLQ", lambda: count("DlqUrl") == 1)
        wait_for("everything else to be handled", lambda: count("QueueUrl") == 0)
        if tags(many) != ["suspicious", "vip"]:
            sys.exit(f"error: tags were lost: {tags(many)}")
        if process.poll() is not None:
            sys.exit("error: the process has ended")
    finally:
        process.terminate()
        process.wait()
    print("ok: the example tags what it should, and nothing else", flush=True)


if __name__ == "__main__":
    main()
