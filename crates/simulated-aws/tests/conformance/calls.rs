//! DynamoDB's calls by the SDK, from and to the wire's JSON, so that a case is one value and two answers can be compared.
//!
//! In: a client, an operation, a request as JSON. Out: the answer as JSON, or the error's code with what DynamoDB hands over
//! with it. Guarantee: what has no order is sorted; what differs by nature (messages, request ids) is left out.

use std::collections::HashMap;

use aws_sdk_dynamodb::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    operation::{
        delete_item::DeleteItemError, put_item::PutItemError,
        transact_write_items::TransactWriteItemsError, update_item::UpdateItemError,
    },
    types::{
        AttributeValue, BatchStatementRequest, ConditionCheck, Delete, KeysAndAttributes, Put,
        TransactWriteItem, Update,
    },
};
use serde_json::{Map, Value, json};

type Attributes = HashMap<String, AttributeValue>;

fn attribute(value: &Value) -> AttributeValue {
    let (kind, inner) = value.as_object().and_then(|value| value.iter().next()).expect("a value");
    let text = || inner.as_str().expect("a text").to_owned();
    match kind.as_str() {
        "S" => AttributeValue::S(text()),
        "N" => AttributeValue::N(text()),
        "BOOL" => AttributeValue::Bool(inner == &json!(true)),
        "NULL" => AttributeValue::Null(true),
        "L" => AttributeValue::L(inner.as_array().into_iter().flatten().map(attribute).collect()),
        "M" => AttributeValue::M(attributes(inner).unwrap_or_default()),
        other => panic!("values of type {other} are not used"),
    }
}

fn attributes(item: &Value) -> Option<Attributes> {
    let fields = item.as_object()?.iter();
    Some(fields.map(|(name, value)| (name.clone(), attribute(value))).collect())
}

fn value_json(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::S(text) => json!({ "S": text }),
        AttributeValue::N(number) => json!({ "N": number }),
        AttributeValue::Bool(value) => json!({ "BOOL": value }),
        AttributeValue::Null(_) => json!({ "NULL": true }),
        AttributeValue::L(values) => {
            json!({ "L": values.iter().map(value_json).collect::<Vec<_>>() })
        }
        AttributeValue::M(fields) => json!({ "M": item_json(fields) }),
        other => panic!("{other:?} is not used"),
    }
}

fn item_json(item: &Attributes) -> Value {
    item.iter().map(|(name, value)| (name.clone(), value_json(value))).collect::<Map<_, _>>().into()
}

/// An answer's field, if it has it.
fn field<T>(answer: &mut Value, name: &str, value: Option<T>, json: impl Fn(&T) -> Value) {
    if let Some(value) = value {
        answer[name] = json(&value);
    }
}

fn items_json(items: &[Attributes]) -> Value {
    items.iter().map(item_json).collect::<Vec<_>>().into()
}

fn sorted(items: &[Attributes]) -> Value {
    let mut items: Vec<_> = items.iter().map(item_json).collect();
    items.sort_by_key(Value::to_string);
    items.into()
}

fn text(request: &Value, name: &str) -> Option<String> {
    request[name].as_str().map(str::to_owned)
}

fn names(request: &Value) -> Option<HashMap<String, String>> {
    let names = request["ExpressionAttributeNames"].as_object()?.iter();
    Some(names.map(|(name, value)| (name.clone(), value.as_str().unwrap_or("").into())).collect())
}

fn values(request: &Value) -> Option<Attributes> {
    attributes(&request["ExpressionAttributeValues"])
}

fn number(request: &Value, name: &str) -> Option<i32> {
    request[name].as_i64().and_then(|number| number.try_into().ok())
}

/// An error, with what DynamoDB hands over with it.
fn failure<E, R>(error: &SdkError<E, R>, more: impl Fn(&E) -> Option<Value>) -> Value
where
    E: ProvideErrorMetadata + std::fmt::Debug,
    R: std::fmt::Debug,
{
    let Some(service) = error.as_service_error() else {
        return json!({ "error": format!("{error:?}") });
    };
    let mut failure = json!({ "error": service.code() });
    // What the simulation does not know is no DynamoDB's answer.
    assert_ne!(service.code(), Some("NotImplemented"), "{:?}", service.message());
    field(&mut failure, "with", more(service), Value::clone);
    failure
}

/// What a client is answered, as JSON.
pub(crate) async fn call(client: &Client, operation: &str, request: &Value) -> Value {
    let (table, request_key) = (text(request, "TableName"), attributes(&request["Key"]));
    let condition = || text(request, "ConditionExpression");
    let mut answer = json!({});
    match operation {
        "PutItem" => {
            let sent = client.put_item().set_table_name(table);
            let sent = sent
                .set_item(attributes(&request["Item"]))
                .set_condition_expression(condition())
                .set_expression_attribute_names(names(request))
                .set_expression_attribute_values(values(request))
                .set_return_values_on_condition_check_failure(old(request))
                .send();
            if let Err(error) = sent.await {
                return failure(&error, |error| match error {
                    PutItemError::ConditionalCheckFailedException(failed) => {
                        failed.item().map(item_json)
                    }
                    _ => None,
                });
            }
        }
        "UpdateItem" => {
            let sent = client.update_item().set_table_name(table).set_key(request_key);
            let sent = sent
                .set_update_expression(text(request, "UpdateExpression"))
                .set_condition_expression(condition())
                .set_expression_attribute_names(names(request))
                .set_expression_attribute_values(values(request))
                .set_return_values(text(request, "ReturnValues").as_deref().map(Into::into))
                .set_return_values_on_condition_check_failure(old(request))
                .send();
            match sent.await {
                Ok(updated) => field(&mut answer, "Attributes", updated.attributes, item_json),
                Err(error) => {
                    return failure(&error, |error| match error {
                        UpdateItemError::ConditionalCheckFailedException(failed) => {
                            failed.item().map(item_json)
                        }
                        _ => None,
                    });
                }
            }
        }
        "DeleteItem" => {
            let sent = client.delete_item().set_table_name(table).set_key(request_key);
            let sent = sent
                .set_condition_expression(condition())
                .set_expression_attribute_names(names(request))
                .set_expression_attribute_values(values(request))
                .set_return_values_on_condition_check_failure(old(request))
                .send();
            if let Err(error) = sent.await {
                return failure(&error, |error| match error {
                    DeleteItemError::ConditionalCheckFailedException(failed) => {
                        failed.item().map(item_json)
                    }
                    _ => None,
                });
            }
        }
        "TransactWriteItems" => {
            let writes = request["TransactItems"].as_array().into_iter().flatten();
            let sent = client
                .transact_write_items()
                .set_client_request_token(text(request, "ClientRequestToken"))
                .set_transact_items(Some(writes.map(transact_item).collect()))
                .send();
            if let Err(error) = sent.await {
                return failure(&error, reasons);
            }
        }
        "GetItem" => {
            let sent = client.get_item().set_table_name(table).set_key(request_key);
            match sent.set_consistent_read(request["ConsistentRead"].as_bool()).send().await {
                Ok(read) => field(&mut answer, "Item", read.item, item_json),
                Err(error) => return failure(&error, |_| None),
            }
        }
        "BatchGetItem" => {
            let mut sent = client.batch_get_item();
            for (table, wanted) in request["RequestItems"].as_object().into_iter().flatten() {
                let keys = wanted["Keys"].as_array().into_iter().flatten();
                let keys = KeysAndAttributes::builder()
                    .set_keys(Some(keys.filter_map(attributes).collect()))
                    .set_consistent_read(wanted["ConsistentRead"].as_bool());
                sent = sent.request_items(table, keys.build().expect("keys"));
            }
            match sent.send().await {
                Ok(read) => {
                    for (table, items) in read.responses.into_iter().flatten() {
                        answer["Responses"][table] = sorted(&items);
                    }
                    let left = read.unprocessed_keys.into_iter().flatten();
                    answer["Unprocessed"] =
                        json!(left.map(|(_, keys)| keys.keys.len()).sum::<usize>());
                }
                Err(error) => return failure(&error, |_| None),
            }
        }
        "Query" => {
            let sent = client.query().set_table_name(table);
            let sent = sent
                .set_index_name(text(request, "IndexName"))
                .set_key_condition_expression(text(request, "KeyConditionExpression"))
                .set_expression_attribute_names(names(request))
                .set_expression_attribute_values(values(request))
                .set_consistent_read(request["ConsistentRead"].as_bool())
                .set_scan_index_forward(request["ScanIndexForward"].as_bool())
                .set_limit(number(request, "Limit"))
                .set_select(text(request, "Select").as_deref().map(Into::into))
                .set_exclusive_start_key(attributes(&request["ExclusiveStartKey"]))
                .send();
            match sent.await {
                Ok(page) => {
                    answer["Count"] = json!(page.count);
                    field(&mut answer, "Items", page.items, |items| items_json(items));
                    field(&mut answer, "LastEvaluatedKey", page.last_evaluated_key, item_json);
                }
                Err(error) => return failure(&error, |_| None),
            }
        }
        "Scan" => {
            let sent = client.scan().set_table_name(table);
            let sent = sent
                .set_consistent_read(request["ConsistentRead"].as_bool())
                .set_projection_expression(text(request, "ProjectionExpression"))
                .set_expression_attribute_names(names(request))
                .set_limit(number(request, "Limit"))
                .set_exclusive_start_key(attributes(&request["ExclusiveStartKey"]))
                .send();
            match sent.await {
                Ok(page) => {
                    answer["Count"] = json!(page.count);
                    field(&mut answer, "Items", page.items, |items| sorted(items));
                    field(&mut answer, "LastEvaluatedKey", page.last_evaluated_key, item_json);
                }
                Err(error) => return failure(&error, |_| None),
            }
        }
        "BatchExecuteStatement" => {
            let statements = request["Statements"].as_array().into_iter().flatten();
            let statements = statements.map(|statement| {
                let parameters = statement["Parameters"].as_array().into_iter().flatten();
                BatchStatementRequest::builder()
                    .set_statement(text(statement, "Statement"))
                    .set_parameters(Some(parameters.map(attribute).collect()))
                    .build()
                    .expect("a statement")
            });
            let sent = client.batch_execute_statement().set_statements(Some(statements.collect()));
            match sent.send().await {
                Ok(executed) => {
                    let codes = executed.responses().iter().map(|response| {
                        let code = response.error().and_then(|error| error.code());
                        json!(code.map_or("None", |code| code.as_str()))
                    });
                    answer["Errors"] = codes.collect::<Vec<_>>().into();
                }
                Err(error) => return failure(&error, |_| None),
            }
        }
        other => panic!("{other} is not used"),
    }
    answer
}

fn old(request: &Value) -> Option<aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure> {
    text(request, "ReturnValuesOnConditionCheckFailure").as_deref().map(Into::into)
}

fn transact_item(write: &Value) -> TransactWriteItem {
    let (kind, write) = write.as_object().and_then(|write| write.iter().next()).expect("a write");
    let table = text(write, "TableName");
    let condition = text(write, "ConditionExpression");
    let item = TransactWriteItem::builder();
    match kind.as_str() {
        "Put" => {
            let put = Put::builder()
                .set_table_name(table)
                .set_item(attributes(&write["Item"]))
                .set_condition_expression(condition)
                .set_expression_attribute_names(names(write))
                .set_expression_attribute_values(values(write))
                .set_return_values_on_condition_check_failure(old(write));
            item.put(put.build().expect("a put"))
        }
        "Update" => {
            let update = Update::builder()
                .set_table_name(table)
                .set_key(attributes(&write["Key"]))
                .set_update_expression(text(write, "UpdateExpression"))
                .set_condition_expression(condition)
                .set_expression_attribute_names(names(write))
                .set_expression_attribute_values(values(write))
                .set_return_values_on_condition_check_failure(old(write));
            item.update(update.build().expect("an update"))
        }
        "Delete" => {
            let delete = Delete::builder()
                .set_table_name(table)
                .set_key(attributes(&write["Key"]))
                .set_condition_expression(condition)
                .set_expression_attribute_names(names(write))
                .set_expression_attribute_values(values(write))
                .set_return_values_on_condition_check_failure(old(write));
            item.delete(delete.build().expect("a deletion"))
        }
        _ => {
            let check = ConditionCheck::builder()
                .set_table_name(table)
                .set_key(attributes(&write["Key"]))
                .set_condition_expression(condition)
                .set_expression_attribute_names(names(write))
                .set_expression_attribute_values(values(write))
                .set_return_values_on_condition_check_failure(old(write));
            item.condition_check(check.build().expect("a check"))
        }
    }
    .build()
}

fn reasons(error: &TransactWriteItemsError) -> Option<Value> {
    let TransactWriteItemsError::TransactionCanceledException(cancelled) = error else {
        return None;
    };
    let reasons = cancelled.cancellation_reasons().iter().map(|reason| {
        let mut json = json!({ "Code": reason.code().unwrap_or("None") });
        // A reason without an item may have an empty one.
        let item = reason.item().filter(|item| !item.is_empty());
        field(&mut json, "Item", item, |item| item_json(item));
        json
    });
    Some(reasons.collect::<Vec<_>>().into())
}
