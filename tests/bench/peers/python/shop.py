"""The same work in Python, as the documentation of boto3 and Powertools has it: one handler for HTTP, one for a batch.

https://docs.powertools.aws.dev/lambda/python/latest/utilities/idempotency/
https://docs.powertools.aws.dev/lambda/python/latest/utilities/batch/
"""

import json
import os
import uuid
from datetime import datetime, timezone
from decimal import Decimal

import boto3
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.idempotency import (
    DynamoDBPersistenceLayer,
    IdempotencyConfig,
    idempotent,
    idempotent_function,
)

dynamodb = boto3.client("dynamodb")
sns = boto3.client("sns")
persistence = DynamoDBPersistenceLayer(
    table_name=os.environ["IDEMPOTENCY_TABLE"], key_attr="key", expiry_attr="expires_at", boto3_client=dynamodb
)


def now():
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def publish(event_type, data):
    event_id = str(uuid.uuid4())
    event = {
        "event_type": event_type,
        "event_id": event_id,
        "event_version": "1.0",
        "timestamp": now(),
        "data": data,
    }
    attribute = {"DataType": "String", "StringValue": event_type}
    sns.publish(
        TopicArn=os.environ["TOPIC_ARN"], Message=json.dumps(event), MessageAttributes={"event_type": attribute}
    )


def answer(status, body):
    return {"statusCode": status, "headers": {"content-type": "application/json"}, "body": json.dumps(body)}


@idempotent(
    config=IdempotencyConfig(event_key_jmespath='headers."idempotency-key"', raise_on_no_idempotency_key=True),
    persistence_store=persistence,
)
def order(event, context):
    request = json.loads(event["body"])
    email = request.get("customer_email")
    lines = request.get("items")
    if not isinstance(email, str) or "@" not in email or not lines:
        return answer(400, {"type": "validation"})
    items, total = [], Decimal(0)
    for line in lines:
        product_id, quantity = line["product_id"], line["quantity"]
        found = dynamodb.get_item(
            TableName=os.environ["PRODUCTS_TABLE"], Key={"product_id": {"S": product_id}}, ConsistentRead=True
        )
        if "Item" not in found or not 1 <= quantity <= 1000:
            return answer(400, {"type": "validation"})
        price = Decimal(found["Item"]["price"]["N"])
        total += price * quantity
        items.append(
            {"product_id": product_id, "quantity": quantity, "unit_price": int(price), "line_total": int(price * quantity)}
        )
    order_id, created_at = str(uuid.uuid4()), now()
    dynamodb.put_item(
        TableName=os.environ["ORDERS_TABLE"],
        Item={
            "order_id": {"S": order_id},
            "status": {"S": "pending"},
            "customer_email": {"S": email},
            "items": {"S": json.dumps(items)},
            "total": {"N": str(total)},
            "created_at": {"S": created_at},
            "updated_at": {"S": created_at},
            "pending_shard": {"S": str(int(order_id[:2], 16) % 8)},
        },
        ConditionExpression="attribute_not_exists(order_id)",
    )
    order = {"order_id": order_id, "items": items, "total_price": int(total), "customer_email": email}
    publish("OrderCreated", order)
    return answer(201, {"id": order_id, "status": "pending", **order})


processor = BatchProcessor(event_type=EventType.SQS)
record_config = IdempotencyConfig(event_key_jmespath="messageId")


@idempotent_function(data_keyword_argument="record", config=record_config, persistence_store=persistence)
def reserve(record):
    order = json.loads(record.body)["data"]
    for item in order["items"]:
        dynamodb.update_item(
            TableName=os.environ["PRODUCTS_TABLE"],
            Key={"product_id": {"S": item["product_id"]}},
            UpdateExpression="ADD stock :change",
            ConditionExpression="stock >= :quantity",
            ExpressionAttributeValues={
                ":quantity": {"N": str(item["quantity"])},
                ":change": {"N": str(-item["quantity"])},
            },
        )
    publish("StockReserved", {"order_id": order["order_id"]})


def stock(event, context):
    record_config.register_lambda_context(context)
    return process_partial_response(event=event, record_handler=reserve, processor=processor, context=context)
