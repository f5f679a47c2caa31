//! Every DynamoDB call and expression of the production code, and what DynamoDB refuses of the like: one case each.

use serde_json::{Value, json};
use simulated_aws::{Index, SimulatedAws, Table};

const ORDERS: &str = "conformance-orders";
const PRODUCTS: &str = "conformance-products";
const EVENTS: &str = "conformance-events";
const IDEMPOTENCY: &str = "conformance-idempotency";

/// An index, its keys, and whether it has only keys.
pub(crate) type IndexOf = (&'static str, [&'static str; 2], bool);

/// Tables with their keys and indexes, as the template has them.
pub(crate) const TABLES: [(&str, &[&str], &[IndexOf]); 4] = [
    (
        ORDERS,
        &["order_id"],
        &[
            ("pending", ["pending_shard", "created_at"], true),
            ("by_customer_keys", ["customer_email", "created_at"], true),
        ],
    ),
    (PRODUCTS, &["product_id"], &[("by_category", ["category", "product_id"], true)]),
    (EVENTS, &["order_id", "event_id"], &[("outbox", ["outbox_shard", "pending_since"], true)]),
    (IDEMPOTENCY, &["key"], &[]),
];

/// One call. Cases share their tables, in their order.
pub(crate) struct Case {
    pub name: &'static str,
    pub operation: &'static str,
    pub request: Value,
}

#[derive(Default)]
struct Cases(Vec<Case>);

impl Cases {
    fn add(
        &mut self,
        name: &'static str,
        operation: &'static str,
        table: &str,
        mut request: Value,
    ) {
        request["TableName"] = json!(table);
        self.0.push(Case { name, operation, request });
    }

    /// Takes events of one stream out of the outbox.
    fn clear(&mut self, name: &'static str, ids: &[impl AsRef<str>]) {
        let statement = format!(
            "UPDATE \"{EVENTS}\" REMOVE outbox_shard REMOVE pending_since \
             WHERE \"order_id\" = ? AND \"event_id\" = ?"
        );
        let statements = ids
            .iter()
            .map(|id| json!({ "Statement": statement, "Parameters": [s("o9"), s(id.as_ref())] }))
            .collect::<Vec<_>>();
        let request = json!({ "Statements": statements });
        self.0.push(Case { name, operation: "BatchExecuteStatement", request });
    }

    fn transact(&mut self, name: &'static str, token: &str, writes: &[Value]) {
        let request = json!({ "ClientRequestToken": token, "TransactItems": writes });
        self.0.push(Case { name, operation: "TransactWriteItems", request });
    }
}

fn s(text: &str) -> Value {
    json!({ "S": text })
}

fn n(number: i64) -> Value {
    json!({ "N": number.to_string() })
}

fn write(kind: &str, table: &str, mut write: Value) -> Value {
    write["TableName"] = json!(table);
    json!({ kind: write })
}

fn order(id: &str, customer: &str, created_at: &str) -> Value {
    json!({
        "order_id": s(id), "customer_email": s(customer), "created_at": s(created_at),
        "updated_at": s(created_at), "status": s("pending"), "pending_shard": s("3"),
        "created_event_id": s("e1"),
        "items": { "L": [{ "M": { "product_id": s("p"), "quantity": n(2) } }] },
        "total": n(100), "note": { "NULL": true }, "gift": { "BOOL": false },
    })
}

fn new_order(id: &str, customer: &str, created_at: &str) -> Value {
    write(
        "Put",
        ORDERS,
        json!({
            "Item": order(id, customer, created_at),
            "ConditionExpression": "attribute_not_exists(order_id)",
        }),
    )
}

fn event(stream: &str, id: &str, since: &str) -> Value {
    json!({
        "order_id": s(stream), "event_id": s(id), "body": s("{}"),
        "attributes": { "M": { "event_type": s("OrderCreated") } },
        "outbox_shard": s("1"), "pending_since": s(since),
    })
}

fn transition(id: &str, from: &str, to: &str, reason: Option<&str>) -> Value {
    let mut update = json!({
        "Key": { "order_id": s(id) },
        "UpdateExpression": "SET #status = :to, updated_at = :now REMOVE pending_shard, created_event_id",
        "ConditionExpression": "#status = :from",
        "ExpressionAttributeNames": { "#status": "status" },
        "ExpressionAttributeValues": { ":from": s(from), ":to": s(to), ":now": s("2026-01-02") },
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    });
    if let Some(reason) = reason {
        update["UpdateExpression"] = json!(
            "SET #status = :to, updated_at = :now, reason = :reason REMOVE pending_shard, created_event_id"
        );
        update["ExpressionAttributeValues"][":reason"] = s(reason);
    }
    write("Update", ORDERS, update)
}

fn orders(cases: &mut Cases) {
    cases.transact(
        "an order is placed with its event",
        "place-1",
        &[
            new_order("o1", "a@example.com", "2026-01-01T00:00:01Z"),
            write("Put", EVENTS, json!({ "Item": event("o1", "e1", "2026-01-01T00:00:01Z") })),
        ],
    );
    cases.transact(
        "the same order by the same token",
        "place-1",
        &[
            new_order("o1", "a@example.com", "2026-01-01T00:00:01Z"),
            write("Put", EVENTS, json!({ "Item": event("o1", "e1", "2026-01-01T00:00:01Z") })),
        ],
    );
    cases.transact(
        "another order by the same token",
        "place-1",
        &[new_order("o2", "a@example.com", "2026-01-01T00:00:01Z")],
    );
    cases.transact(
        "the order by another token",
        "place-2",
        &[
            new_order("o1", "a@example.com", "2026-01-01T00:00:01Z"),
            write("Put", EVENTS, json!({ "Item": event("o1", "e2", "2026-01-01T00:00:01Z") })),
        ],
    );
    for (token, id, at) in
        [("place-3", "o2", "2026-01-01T00:00:02Z"), ("place-4", "o3", "2026-01-01T00:00:03Z")]
    {
        cases.transact("more orders", token, &[new_order(id, "a@example.com", at)]);
    }
    let get = |id: &str| json!({ "Key": { "order_id": s(id) }, "ConsistentRead": true });
    cases.add("an order is read", "GetItem", ORDERS, get("o1"));
    cases.add("no order is read", "GetItem", ORDERS, get("none"));
    cases.transact(
        "a transition with a reason",
        "move-1",
        &[transition("o1", "pending", "rejected", Some("out of stock"))],
    );
    cases.add("the order after it", "GetItem", ORDERS, get("o1"));
    cases.transact(
        "a transition from a status that is gone hands over the order",
        "move-2",
        &[
            write("Put", EVENTS, json!({ "Item": event("o1", "e3", "2026-01-01T00:00:01Z") })),
            transition("o1", "pending", "confirmed", None),
        ],
    );
    cases.transact(
        "a transition of no order",
        "move-3",
        &[transition("none", "pending", "confirmed", None)],
    );
    let published = |from: &str| {
        json!({
            "Key": { "order_id": s("o3") },
            "UpdateExpression": "SET pending_shard = :to REMOVE created_event_id",
            "ConditionExpression": "pending_shard = :from",
            "ExpressionAttributeValues": { ":from": s(from), ":to": s("4") },
        })
    };
    cases.add("an order in another partition", "UpdateItem", ORDERS, published("unpublished-4"));
    cases.add("an order changes its partition", "UpdateItem", ORDERS, published("3"));
    cases.add("and is in the other then", "GetItem", ORDERS, get("o3"));
    cases.add("and goes back", "UpdateItem", ORDERS, {
        let mut back = published("4");
        back["ExpressionAttributeValues"][":to"] = s("3");
        back
    });
    let enqueued = json!({
        "Key": { "order_id": s("o1"), "event_id": s("e1") },
        "UpdateExpression": "SET outbox_shard = :shard, pending_since = :since",
        "ExpressionAttributeValues": { ":shard": s("1"), ":since": s("2026-01-01T00:00:01Z") },
    });
    cases.transact(
        "an event is put in the outbox",
        "enqueue-1",
        &[write("Update", EVENTS, enqueued)],
    );
    cases.transact(
        "a transition without a reason",
        "move-4",
        &[transition("o2", "pending", "confirmed", None)],
    );
    let of_customer = |limit: Option<i32>, start: Value| {
        let mut query = json!({
            "IndexName": "by_customer_keys",
            "KeyConditionExpression": "customer_email = :email",
            "ExpressionAttributeValues": { ":email": s("a@example.com") },
            "ScanIndexForward": false,
        });
        limit.into_iter().for_each(|limit| query["Limit"] = json!(limit));
        if !start.is_null() {
            query["ExclusiveStartKey"] = start;
        }
        query
    };
    let start = json!({ "order_id": s("o2"), "customer_email": s("a@example.com"), "created_at": s("2026-01-01T00:00:02Z") });
    cases.add("a page of a customer's orders", "Query", ORDERS, of_customer(Some(2), Value::Null));
    cases.add("the next page", "Query", ORDERS, of_customer(Some(2), start.clone()));
    cases.add(
        "a page that ends with the last order",
        "Query",
        ORDERS,
        of_customer(Some(3), Value::Null),
    );
    cases.add(
        "a start that lacks the table's key",
        "Query",
        ORDERS,
        of_customer(None, json!({ "customer_email": s("a@example.com"), "created_at": s("2026") })),
    );
    let mut other = start;
    other["customer_email"] = s("b@example.com");
    cases.add("a start of another customer", "Query", ORDERS, of_customer(None, other));
    let pending = |limit: Option<i32>, select: Option<&str>| {
        let mut query = json!({
            "IndexName": "pending",
            "KeyConditionExpression": "pending_shard = :shard AND created_at < :before",
            "ExpressionAttributeValues": { ":shard": s("3"), ":before": s("2026-01-01T00:00:09Z") },
        });
        limit.into_iter().for_each(|limit| query["Limit"] = json!(limit));
        select.into_iter().for_each(|select| query["Select"] = json!(select));
        query
    };
    cases.add(
        "pending orders, which are those with a shard",
        "Query",
        ORDERS,
        pending(Some(10), None),
    );
    let mut counted = pending(None, Some("COUNT"));
    counted["KeyConditionExpression"] =
        json!("pending_shard = :partition AND created_at < :before");
    counted["ExpressionAttributeValues"] =
        json!({ ":partition": s("3"), ":before": s("2026-01-01T00:00:09Z") });
    cases.add("how many are pending", "Query", ORDERS, counted);
    cases.add("several orders at once", "BatchGetItem", ORDERS, json!({}));
    let keys = ["o3", "none", "o1"].map(|id| json!({ "order_id": s(id) }));
    let last = cases.0.last_mut().expect("a case");
    last.request = json!({ "RequestItems": { ORDERS: {
        "ConsistentRead": true,
        "Keys": keys,
    } } });
}

fn stock_change(id: &str, delta: i64, least: Option<i64>, greatest: Option<i64>) -> Value {
    let mut conditions = vec!["attribute_exists(product_id)"];
    let mut update = json!({
        "Key": { "product_id": s(id) },
        "UpdateExpression": "SET stock = stock + :delta",
        "ExpressionAttributeValues": { ":delta": n(delta) },
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    });
    if let Some(least) = least {
        conditions.push("stock >= :least");
        update["ExpressionAttributeValues"][":least"] = n(least);
    }
    if let Some(greatest) = greatest {
        conditions.push("stock <= :greatest");
        update["ExpressionAttributeValues"][":greatest"] = n(greatest);
    }
    update["ConditionExpression"] = json!(conditions.join(" AND "));
    write("Update", PRODUCTS, update)
}

fn products(cases: &mut Cases) {
    let product = json!({ "product_id": s("p1"), "name": s("Lamp"), "price": n(1990), "stock": n(5), "version": n(1), "category": s("light") });
    cases.transact(
        "a product is made",
        "product-1",
        &[write("Put", PRODUCTS, json!({ "Item": product }))],
    );
    let of_category = |start: Value| {
        let mut query = json!({
            "IndexName": "by_category",
            "KeyConditionExpression": "category = :category",
            "ExpressionAttributeValues": { ":category": s("light") },
            "Limit": 1,
        });
        if !start.is_null() {
            query["ExclusiveStartKey"] = start;
        }
        query
    };
    cases.add("a page of a category", "Query", PRODUCTS, of_category(Value::Null));
    let start = json!({ "product_id": s("p1"), "category": s("light") });
    cases.add("the next page of a category", "Query", PRODUCTS, of_category(start));
    let change = |expression: &str, more: Value| {
        let mut values = json!({ ":one": n(1) });
        more.as_object()
            .into_iter()
            .flatten()
            .for_each(|(name, value)| values[name] = value.clone());
        let mut update = json!({
            "Key": { "product_id": s("p1") },
            "UpdateExpression": expression,
            "ConditionExpression": "attribute_exists(product_id)",
            "ExpressionAttributeValues": values,
        });
        if expression.contains("#name") {
            update["ExpressionAttributeNames"] = json!({ "#name": "name" });
        }
        write("Update", PRODUCTS, update)
    };
    cases.transact(
        "all of a product is changed",
        "change-1",
        &[change(
            "SET version = version + :one, #name = :name, price = :price, category = :category",
            json!({ ":name": s("Lantern"), ":price": n(2500), ":category": s("garden") }),
        )],
    );
    cases.transact(
        "a category is cleared",
        "change-2",
        &[change("SET version = version + :one REMOVE category", json!({}))],
    );
    let get = json!({ "Key": { "product_id": s("p1") }, "ConsistentRead": true });
    cases.add("the product after it", "GetItem", PRODUCTS, get.clone());
    cases.transact("stock is taken", "stock-1", &[stock_change("p1", -2, Some(2), None)]);
    cases.transact(
        "stock is given back by the same token once",
        "stock-2",
        &[stock_change("p1", 2, None, Some(9000))],
    );
    cases.transact(
        "stock is given back by the same token once",
        "stock-2",
        &[stock_change("p1", 2, None, Some(9000))],
    );
    cases.transact(
        "there is not enough: the product is handed over",
        "stock-3",
        &[stock_change("p1", -6, Some(6), None)],
    );
    cases.transact(
        "there is no such product: nothing is handed over",
        "stock-4",
        &[stock_change("none", -1, Some(1), None)],
    );
    cases.transact(
        "two lines, of which one fails",
        "stock-5",
        &[stock_change("p1", -1, Some(1), None), stock_change("none", -1, Some(1), None)],
    );
    cases.transact("a reservation is released only when reserved", "stock-6", &[write("Update", PRODUCTS, json!({
        "Key": { "product_id": s("p1") },
        "UpdateExpression": "SET #status = :released",
        "ConditionExpression": "#status = :reserved",
        "ExpressionAttributeNames": { "#status": "status" },
        "ExpressionAttributeValues": { ":released": s("released"), ":reserved": s("reserved") },
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }))]);
    cases.add("stock in the end", "GetItem", PRODUCTS, get);
    cases.add("a page of products", "Scan", PRODUCTS, json!({ "Limit": 10 }));
    cases.add("a page that ends with the last product", "Scan", PRODUCTS, json!({ "Limit": 1 }));
    cases.add(
        "the page behind it",
        "Scan",
        PRODUCTS,
        json!({ "Limit": 1, "ExclusiveStartKey": { "product_id": s("p1") } }),
    );
    cases.add(
        "some attributes of all products",
        "Scan",
        PRODUCTS,
        json!({
            "ConsistentRead": true,
            "ProjectionExpression": "product_id, #n, gone",
            "ExpressionAttributeNames": { "#n": "name" },
        }),
    );
}

fn outbox(cases: &mut Cases) {
    for id in ["e2", "e3", "e4", "e5"] {
        cases.transact(
            "events are appended",
            &format!("event-{id}"),
            &[write("Put", EVENTS, json!({ "Item": event("o9", id, "2026-01-01T00:00:05Z") }))],
        );
    }
    let mark = |expression: &str, condition: &str, values: Value| {
        let mut update = json!({
            "Key": { "order_id": s("o9"), "event_id": s("e2") },
            "UpdateExpression": expression,
            "ConditionExpression": condition,
        });
        if values != json!({}) {
            update["ExpressionAttributeValues"] = values;
        }
        update
    };
    let sweep = |more: Value| {
        let mut query = json!({
            "IndexName": "outbox",
            "KeyConditionExpression": "outbox_shard = :shard AND pending_since < :before",
            "ExpressionAttributeValues": { ":shard": s("1"), ":before": s("2026-01-01T00:00:06Z") },
        });
        more.as_object()
            .into_iter()
            .flatten()
            .for_each(|(name, value)| query[name] = value.clone());
        query
    };
    cases.clear("an event that is published is cleared", &["e2"]);
    cases.clear("and again", &["e2"]);
    cases.clear("events are cleared together, and none is made", &["e2", "none", "e5"]);
    let missing: Vec<String> = (0..26).map(|number| format!("none-{number}")).collect();
    cases.clear("as many as one call takes", &missing[..25]);
    cases.clear("one more", &missing);
    cases.clear("none", &missing[..0]);
    cases.add(
        "what is not pending does not get stuck",
        "UpdateItem",
        EVENTS,
        mark(
            "SET outbox_shard = :stuck",
            "attribute_exists(outbox_shard)",
            json!({ ":stuck": s("stuck") }),
        ),
    );
    let mut aside = mark(
        "SET outbox_shard = :stuck, pending_since = if_not_exists(pending_since, :since)",
        "attribute_exists(#key)",
        json!({ ":stuck": s("stuck"), ":since": s("2026-01-01T00:00:03Z") }),
    );
    aside["ExpressionAttributeNames"] = json!({ "#key": "event_id" });
    let since_when = json!({ "Key": aside["Key"], "ConsistentRead": true });
    cases.add("what was in no outbox is set aside, as of now", "UpdateItem", EVENTS, aside.clone());
    cases.add("since when", "GetItem", EVENTS, since_when.clone());
    aside["ExpressionAttributeValues"][":since"] = s("2026-01-01T00:00:09Z");
    cases.add("what was set aside stays so since then", "UpdateItem", EVENTS, aside);
    cases.add("since when", "GetItem", EVENTS, since_when);
    cases.add(
        "an event is pending again",
        "UpdateItem",
        EVENTS,
        mark(
            "SET outbox_shard = :shard, pending_since = :since",
            "attribute_exists(body)",
            json!({ ":shard": s("2"), ":since": s("2026-01-01T00:00:07Z") }),
        ),
    );
    cases.add(
        "an event is stuck",
        "UpdateItem",
        EVENTS,
        mark(
            "SET outbox_shard = :stuck",
            "attribute_exists(body)",
            json!({ ":stuck": s("stuck") }),
        ),
    );
    let mut no_event = mark(
        "SET outbox_shard = :stuck",
        "attribute_exists(body)",
        json!({ ":stuck": s("stuck") }),
    );
    no_event["Key"]["event_id"] = s("none");
    cases.add("no event is stuck", "UpdateItem", EVENTS, no_event);
    cases.add("the sweep finds keys", "Query", EVENTS, sweep(json!({ "Limit": 1 })));
    cases.add("the sweep goes on behind a key", "Query", EVENTS, sweep(json!({ "ExclusiveStartKey": {
        "order_id": s("o1"), "event_id": s("e1"), "outbox_shard": s("1"), "pending_since": s("2026-01-01T00:00:01Z"),
    } })));
    cases.add(
        "the stuck events",
        "Query",
        EVENTS,
        json!({
            "IndexName": "outbox",
            "KeyConditionExpression": "outbox_shard = :shard",
            "ExpressionAttributeValues": { ":shard": s("stuck") },
            "Limit": 5,
        }),
    );
    cases.add(
        "how many events are in a shard",
        "Query",
        EVENTS,
        json!({
            "IndexName": "outbox",
            "KeyConditionExpression": "outbox_shard = :partition",
            "ExpressionAttributeValues": { ":partition": s("1") },
            "Select": "COUNT",
        }),
    );
    let history = |condition: &str, values: Value| {
        json!({
            "KeyConditionExpression": condition, "ExpressionAttributeValues": values, "ConsistentRead": true,
        })
    };
    cases.add(
        "an order's history",
        "Query",
        EVENTS,
        history("order_id = :id", json!({ ":id": s("o9") })),
    );
    cases.add(
        "an order's log",
        "Query",
        EVENTS,
        history("order_id = :order", json!({ ":order": s("o9") })),
    );
    cases.add(
        "one event of it",
        "Query",
        EVENTS,
        history(
            "order_id = :order AND event_id = :event",
            json!({ ":order": s("o9"), ":event": s("e3") }),
        ),
    );
    cases.add(
        "an index is not read consistently",
        "Query",
        EVENTS,
        sweep(json!({ "ConsistentRead": true })),
    );
}

fn claim(owner: &str, now: i64, fingerprint: Option<&str>) -> Value {
    let same = fingerprint
        .map_or("", |_| " AND (attribute_not_exists(fingerprint) OR fingerprint = :fingerprint)");
    let set = fingerprint.map_or("", |_| ", fingerprint = :fingerprint");
    let mut claim = json!({
        "Key": { "key": s("effect") },
        "UpdateExpression": format!("SET #state = :in_progress, #owner = :owner, leased_until = :until, expires_at = :expires, claimed_at = :now{set}"),
        "ConditionExpression": format!("attribute_not_exists(#key) OR (#state = :in_progress AND leased_until <= :now{same})"),
        "ExpressionAttributeNames": { "#key": "key", "#state": "state", "#owner": "owner" },
        "ExpressionAttributeValues": {
            ":in_progress": s("in_progress"), ":owner": s(owner), ":until": n(now + 100), ":expires": n(2_000_000_000), ":now": n(now),
        },
        "ReturnValues": "ALL_NEW",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    });
    if let Some(fingerprint) = fingerprint {
        claim["ExpressionAttributeValues"][":fingerprint"] = s(fingerprint);
    }
    claim
}

fn inbox(cases: &mut Cases) {
    let owned = |more: Value| {
        let mut update = json!({
            "Key": { "key": s("effect") },
            "ConditionExpression": "#owner = :owner AND #state = :in_progress",
            "ExpressionAttributeNames": { "#state": "state", "#owner": "owner" },
        });
        more.as_object()
            .into_iter()
            .flatten()
            .for_each(|(name, value)| update[name] = value.clone());
        update
    };
    let by = |owner: &str| json!({ ":owner": s(owner), ":in_progress": s("in_progress") });
    cases.add("an effect is claimed", "UpdateItem", IDEMPOTENCY, claim("a", 1000, Some("f")));
    cases.add(
        "a claim is held: it is handed over",
        "UpdateItem",
        IDEMPOTENCY,
        claim("b", 1050, Some("f")),
    );
    cases.add(
        "a claim that has ended is another's",
        "UpdateItem",
        IDEMPOTENCY,
        claim("b", 1100, Some("f")),
    );
    cases.add("a claim of other content", "UpdateItem", IDEMPOTENCY, claim("c", 2000, Some("g")));
    let mut unknown = by("b");
    unknown[":attempts"] = n(2);
    cases.add("an attempt of unknown outcome is noted", "UpdateItem", IDEMPOTENCY, owned(json!({
        "UpdateExpression": "SET unknown_attempts = :attempts", "ExpressionAttributeValues": unknown,
    })));
    let release = |owner: &str| {
        let mut values = by(owner);
        values[":released"] = n(0);
        owned(
            json!({ "UpdateExpression": "SET leased_until = :released REMOVE fingerprint", "ExpressionAttributeValues": values }),
        )
    };
    cases.add("another does not release a claim", "UpdateItem", IDEMPOTENCY, release("a"));
    cases.add("its owner does", "UpdateItem", IDEMPOTENCY, release("b"));
    cases.add(
        "a released claim is claimed without content",
        "UpdateItem",
        IDEMPOTENCY,
        claim("d", 1, None),
    );
    let complete = |owner: &str, result: bool| {
        let mut update = json!({
            "Key": { "key": s("effect") },
            "UpdateExpression": "SET #state = :done, done_at = :now REMOVE leased_until",
            "ConditionExpression": "#owner = :owner",
            "ExpressionAttributeNames": { "#state": "state", "#owner": "owner" },
            "ExpressionAttributeValues": { ":done": s("done"), ":now": n(1200), ":owner": s(owner) },
        });
        if result {
            update["UpdateExpression"] =
                json!("SET #state = :done, done_at = :now, #result = :result REMOVE leased_until");
            update["ExpressionAttributeNames"]["#result"] = json!("result");
            update["ExpressionAttributeValues"][":result"] = s("{}");
        }
        update
    };
    cases.add("an effect is completed", "UpdateItem", IDEMPOTENCY, complete("d", false));
    cases.add("and again with a result", "UpdateItem", IDEMPOTENCY, complete("d", true));
    cases.add("not by another", "UpdateItem", IDEMPOTENCY, complete("a", true));
    cases.add(
        "a completed claim is not forgotten",
        "DeleteItem",
        IDEMPOTENCY,
        owned(json!({ "ExpressionAttributeValues": by("d") })),
    );
    cases.add("nor claimed", "UpdateItem", IDEMPOTENCY, claim("e", 9000, None));
    let mut other = claim("a", 1000, None);
    other["Key"] = json!({ "key": s("other") });
    cases.add("another effect is claimed", "UpdateItem", IDEMPOTENCY, other);
    cases.0.push(Case {
        name: "items of two tables at once",
        operation: "BatchGetItem",
        request: json!({ "RequestItems": {
            ORDERS: { "ConsistentRead": true, "Keys": [{ "order_id": s("o1") }] },
            IDEMPOTENCY: { "ConsistentRead": true, "Keys": [{ "key": s("other") }] },
        } }),
    });
    let mut forget = owned(json!({ "ExpressionAttributeValues": by("a") }));
    forget["Key"] = json!({ "key": s("other") });
    cases.add("and forgotten", "DeleteItem", IDEMPOTENCY, forget.clone());
    cases.add("and is gone", "DeleteItem", IDEMPOTENCY, forget);
    let marker = |key: &str| {
        write(
            "Put",
            IDEMPOTENCY,
            json!({
                "Item": { "key": s(key), "fingerprint": s("f"), "answer": s(""), "expires_at": n(2_000_000_000) },
                "ConditionExpression": "attribute_not_exists(#key)",
                "ExpressionAttributeNames": { "#key": "key" },
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            }),
        )
    };
    cases.transact("a request key is used", "key-1", &[marker("k1")]);
    cases.transact(
        "a request key is used twice: it is handed over",
        "key-2",
        &[marker("k2"), marker("k1")],
    );
    cases.add(
        "a request key is found",
        "GetItem",
        IDEMPOTENCY,
        json!({ "Key": { "key": s("k1") }, "ConsistentRead": true }),
    );
    for (name, stage) in [
        ("the first stage of mails", 1),
        ("the same stage", 1),
        ("a later stage", 3),
        ("an earlier stage", 2),
    ] {
        cases.add(
            name,
            "UpdateItem",
            IDEMPOTENCY,
            json!({
                "Key": { "key": s("mails#o1") },
                "UpdateExpression": "SET stage = :stage, expires_at = :expires",
                "ConditionExpression": "attribute_not_exists(stage) OR stage <= :stage",
                "ExpressionAttributeValues": { ":stage": n(stage), ":expires": n(2_000_000_000) },
            }),
        );
    }
    cases.add(
        "a counter begins",
        "UpdateItem",
        IDEMPOTENCY,
        json!({
            "Key": { "key": s("sales") }, "UpdateExpression": "ADD pieces :pieces",
            "ExpressionAttributeValues": { ":pieces": n(3) }, "ReturnValues": "ALL_NEW",
        }),
    );
    cases.add(
        "a counter goes on",
        "UpdateItem",
        IDEMPOTENCY,
        json!({
            "Key": { "key": s("sales") }, "UpdateExpression": "ADD pieces :pieces",
            "ExpressionAttributeValues": { ":pieces": n(-1) }, "ReturnValues": "ALL_NEW",
        }),
    );
    for units in [2, 3] {
        cases.add(
            "two sums of one item, which begin and go on",
            "UpdateItem",
            IDEMPOTENCY,
            json!({
                "Key": { "key": s("row") }, "UpdateExpression": "ADD units :units, revenue :revenue",
                "ExpressionAttributeValues": { ":units": n(units), ":revenue": n(100 * units) },
                "ReturnValues": "ALL_NEW",
            }),
        );
    }
}

fn refusals(cases: &mut Cases) {
    let update = |expression: &str, values: Value| {
        json!({
            "Key": { "product_id": s("p1") }, "UpdateExpression": expression, "ExpressionAttributeValues": values,
        })
    };
    let v = || json!({ ":v": s("x") });
    for (name, expression, values) in [
        ("a key is not updated", "SET product_id = :v", v()),
        ("a reserved word is no name", "SET status = :v", v()),
        ("a value that is not there", "SET note = :none", v()),
        ("a value that nothing uses", "REMOVE note", v()),
        ("paths that overlap", "SET note = :v REMOVE note", v()),
        ("an attribute twice", "SET note = :v, note = :v", v()),
        ("a clause twice", "SET note = :v SET title = :v", v()),
        ("a sum with what is not there", "SET gone = gone + :v", json!({ ":v": n(1) })),
        ("a sum with a text", "SET stock = stock + :v", v()),
        (
            "a sum with an attribute that is a text",
            "SET stock = category + :v",
            json!({ ":v": n(1) }),
        ),
        ("an update that is none", "SET", v()),
        ("a number that is none", "SET note = :v", json!({ ":v": { "N": "x" } })),
    ] {
        cases.add(name, "UpdateItem", PRODUCTS, update(expression, values));
    }
    let mut key = update("SET product_id = :v", v());
    key["ConditionExpression"] = json!("attribute_not_exists(product_id)");
    cases.add("a key is updated under a condition that fails", "UpdateItem", PRODUCTS, key);
    let long = format!("SET note = :v{}", " ".repeat(4096));
    cases.add("an expression of more than 4 KB", "UpdateItem", PRODUCTS, update(&long, v()));
    let put = |item: Value, condition: Option<&str>, values: Value| {
        let mut put = json!({ "Item": item });
        condition.into_iter().for_each(|condition| put["ConditionExpression"] = json!(condition));
        if values != json!({}) {
            put["ExpressionAttributeValues"] = values;
        }
        put
    };
    let product = || json!({ "product_id": s("p2") });
    for (name, condition, values) in [
        ("a condition that is none", "note =", json!({})),
        ("redundant parentheses", "((note = :v))", v()),
        ("what is compared with itself", "note = note", json!({})),
        ("an order of booleans", "note < :v", json!({ ":v": { "BOOL": true } })),
        ("a condition on a value of another type", "product_id < :v", json!({ ":v": n(1) })),
        ("what is not there differs from every value", "note <> :v", v()),
        ("numbers are equal by value", "stock <> :v", json!({ ":v": { "N": "05.0" } })),
    ] {
        cases.add(name, "PutItem", PRODUCTS, put(product(), Some(condition), values));
    }
    cases.add("values without an expression", "PutItem", PRODUCTS, put(product(), None, v()));
    cases.add(
        "a key that is empty",
        "PutItem",
        PRODUCTS,
        put(json!({ "product_id": s("") }), None, json!({})),
    );
    cases.add(
        "a key that is missing",
        "PutItem",
        PRODUCTS,
        put(json!({ "note": s("x") }), None, json!({})),
    );
    cases.add(
        "a key that is a number",
        "PutItem",
        PRODUCTS,
        put(json!({ "product_id": n(1) }), None, json!({})),
    );
    cases.add(
        "a key that is too long",
        "PutItem",
        PRODUCTS,
        put(json!({ "product_id": s(&"x".repeat(2049)) }), None, json!({})),
    );
    cases.add(
        "an item of more than 400 KB",
        "PutItem",
        PRODUCTS,
        put(json!({ "product_id": s("p3"), "note": s(&"x".repeat(400 * 1024)) }), None, json!({})),
    );
    cases.add(
        "an index key that is empty",
        "PutItem",
        ORDERS,
        put(json!({ "order_id": s("o4"), "pending_shard": s("") }), None, json!({})),
    );
    cases.add(
        "an index key that is a number",
        "PutItem",
        ORDERS,
        put(json!({ "order_id": s("o4"), "pending_shard": n(1) }), None, json!({})),
    );
    cases.add("numbers are stored without idle zeros", "PutItem", PRODUCTS, put(json!({ "product_id": s("p4"), "a": { "N": "007" }, "b": { "N": "1.50" }, "c": { "N": "-0" } }), None, json!({})));
    cases.add(
        "and read",
        "GetItem",
        PRODUCTS,
        json!({ "Key": { "product_id": s("p4") }, "ConsistentRead": true }),
    );
    cases.add(
        "a key with more than the key",
        "GetItem",
        PRODUCTS,
        json!({ "Key": { "product_id": s("p1"), "note": s("x") } }),
    );
    cases.add(
        "no such table",
        "GetItem",
        "conformance-none",
        json!({ "Key": { "product_id": s("p1") } }),
    );
    let query = |condition: &str| json!({ "KeyConditionExpression": condition, "ExpressionAttributeValues": { ":v": s("x") } });
    for (name, condition) in [
        ("a query without the partition", "event_id = :v"),
        ("a query of a range of partitions", "order_id < :v"),
        ("a query by what is no key", "order_id = :v AND body = :v"),
        ("a query with OR", "order_id = :v OR event_id = :v"),
        ("a query that excludes", "order_id = :v AND event_id <> :v"),
    ] {
        cases.add(name, "Query", EVENTS, query(condition));
    }
    let mut no_index = query("order_id = :v");
    no_index["IndexName"] = json!("none");
    cases.add("no such index", "Query", EVENTS, no_index);
    let mut nothing = query("order_id = :v");
    nothing["Limit"] = json!(0);
    cases.add("a page of nothing", "Query", EVENTS, nothing);
    let puts = |range: std::ops::Range<usize>| -> Vec<Value> {
        range
            .map(|id| {
                write("Put", IDEMPOTENCY, json!({ "Item": { "key": s(&format!("many-{id}")) } }))
            })
            .collect()
    };
    cases.transact("a hundred writes", "many-1", &puts(0..100));
    cases.transact("a hundred and one", "many-2", &puts(0..101));
    cases.transact("no writes", "many-3", &[]);
    cases.transact("an item twice", "many-4", &[puts(0..1), puts(0..1)].concat());
    let check = |key: &str| {
        write(
            "ConditionCheck",
            IDEMPOTENCY,
            json!({
                "Key": { "key": s(key) },
                "ConditionExpression": "attribute_exists(#key)",
                "ExpressionAttributeNames": { "#key": "key" },
            }),
        )
    };
    cases.transact("checks that hold", "check-1", &[check("many-0"), check("many-1")]);
    cases.transact("a check that does not", "check-2", &[check("many-0"), check("none")]);
    let failing = write("Update", PRODUCTS, update("SET gone = gone + :v", json!({ ":v": n(1) })));
    cases.transact(
        "a write of a transaction that is invalid for its item",
        "invalid-1",
        &[check("many-0"), failing],
    );
    let reserved = write("Update", PRODUCTS, update("SET status = :v", v()));
    cases.transact(
        "a write of a transaction that is invalid by itself",
        "invalid-2",
        &[check("many-0"), reserved],
    );
    cases.transact("a token of 37 characters", &"x".repeat(37), &puts(0..1));
    let large: Vec<_> = (0..11).map(|id| write("Put", IDEMPOTENCY, json!({ "Item": { "key": s(&format!("large-{id}")), "note": s(&"x".repeat(399 * 1024)) } }))).collect();
    cases.transact("a transaction of more than 4 MB", "large", &large);
    let batch = |keys: Vec<Value>| Case {
        name: "",
        operation: "BatchGetItem",
        request: json!({ "RequestItems": { IDEMPOTENCY: { "Keys": keys } } }),
    };
    let keys = |count: usize| {
        (0..count).map(|id| json!({ "key": s(&format!("many-{id}")) })).collect::<Vec<_>>()
    };
    cases.0.push(Case { name: "a batch of a hundred", ..batch(keys(100)) });
    cases.0.push(Case { name: "a batch of a hundred and one", ..batch(keys(101)) });
    cases.0.push(Case { name: "a batch with a key twice", ..batch([keys(1), keys(1)].concat()) });
    cases.0.push(Case { name: "a batch of nothing", ..batch(Vec::new()) });
    cases.add(
        "only REMOVE of what is not there",
        "UpdateItem",
        IDEMPOTENCY,
        json!({ "Key": { "key": s("removed") }, "UpdateExpression": "REMOVE note" }),
    );
    cases.add(
        "it is",
        "GetItem",
        IDEMPOTENCY,
        json!({ "Key": { "key": s("removed") }, "ConsistentRead": true }),
    );
    cases.add(
        "a deletion of what is not there",
        "DeleteItem",
        IDEMPOTENCY,
        json!({ "Key": { "key": s("none") } }),
    );
}

/// All cases, in their order.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Cases::default();
    [orders, products, outbox, inbox, refusals].iter().for_each(|add| add(&mut cases));
    cases.0
}

/// Makes the tables of the cases in the simulation.
pub(crate) fn create_tables(aws: &SimulatedAws) {
    for (name, keys, indexes) in TABLES {
        aws.create_table(Table {
            name: name.to_owned(),
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            indexes: indexes
                .iter()
                .map(|(name, keys, _)| Index {
                    name: (*name).to_owned(),
                    keys: keys.map(str::to_owned),
                })
                .collect(),
        });
        for (index, _, _) in indexes.iter().filter(|(_, _, is_keys_only)| *is_keys_only) {
            aws.project_keys_only(name, index);
        }
    }
}
