//! Code and JSON Schema give the same verdict about every event, in both directions, formats asserted. What a schema
//! cannot state is listed in [`holds_beyond_the_schema`] and nowhere else.
//!
//! Events are generated from the schemas and then damaged, because almost everything that is made at random breaks a
//! rule that is easy to agree on.

use std::collections::{HashMap, HashSet};

use events::{Event, EventType, MINOR_UNITS_MAX, Money, Quantity, schema};
use jsonschema::Validator;
use proptest::{prelude::*, sample::Index, string::string_regex};
use serde_json::{Map, Value, json};

/// Number of events that each run compares.
const CASES: u32 = 2000;
/// Maximum number of damages to one event.
const DAMAGES_MAX: usize = 3;
/// Of one piece where totals are put right, in minor units: 50 lines of 1000 pieces stay an amount of money.
const PRICE_MINOR_MAX: i64 = 1_000_000_000;

fn schema_of(event_type: EventType) -> Value {
    serde_json::to_value(schema(event_type)).expect("a schema is JSON")
}

fn validators() -> HashMap<&'static str, Validator> {
    let validator = |event_type: EventType| {
        let validator = jsonschema::options()
            .should_validate_formats(true)
            .build(&schema_of(event_type))
            .expect("a valid schema");
        (event_type.as_str(), validator)
    };
    EventType::ALL.into_iter().map(validator).collect()
}

fn sample(event_type: EventType) -> Value {
    let path = format!("{}/samples/{event_type}.json", env!("CARGO_MANIFEST_DIR"));
    let json = std::fs::read_to_string(path).expect("the committed sample");
    serde_json::from_str(&json).expect("JSON")
}

/// What a schema cannot state, of an event that its schema takes:
/// 1. a line's total is its unit price times its quantity;
/// 2. an order's total is the sum of its lines;
/// 3. no list has two lines of one product;
/// 4. the offset of a timestamp does not carry it out of the years that are taken;
/// 5. an amount has no third decimal.
fn holds_beyond_the_schema(event: &Value) -> bool {
    let data = &event["data"];
    let money = |value: &Value| value.to_string().parse::<Money>().ok();
    let lines = |list: &str| data[list].as_array().into_iter().flatten();
    let products_are_distinct = ["items", "short"].into_iter().all(|list| {
        let products: HashSet<_> = lines(list).map(|line| line["product_id"].to_string()).collect();
        products.len() == lines(list).count()
    });
    let totals_are_right = data.get("total_price").is_none_or(|total| {
        let line_totals_are_right = lines("items").all(|line| {
            let quantity: Quantity =
                serde_json::from_value(line["quantity"].clone()).expect("the schema takes it");
            let total = money(&line["line_total"]);
            total.is_some() && money(&line["unit_price"]).and_then(|p| p.times(quantity)) == total
        });
        let totals: Option<Vec<Money>> =
            lines("items").map(|line| money(&line["line_total"])).collect();
        let total = money(total);
        line_totals_are_right && total.is_some() && totals.and_then(Money::sum) == total
    });
    let timestamp = event["timestamp"].as_str().expect("the schema takes it");
    // No offset is longer than a day.
    let year_may_change = ["1000-01-01", "2999-12-31"].iter().any(|day| timestamp.starts_with(day));
    let amount_is_exact = data.get("amount").is_none_or(|amount| money(amount).is_some());
    products_are_distinct && totals_are_right && amount_is_exact && !year_may_change
}

/// Any value that a schema takes, as far as the keywords go that the contract's schemas have.
fn valid(schema: &Value, definitions: &Value) -> BoxedStrategy<Value> {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().expect("a reference has a name");
        return valid(&definitions[name], definitions);
    }
    if let Some(variants) = schema["anyOf"].as_array() {
        let variants = variants.iter().map(|variant| valid(variant, definitions));
        return prop::strategy::Union::new(variants).boxed();
    }
    if let Some(value) = schema.get("const") {
        return Just(value.clone()).boxed();
    }
    let text =
        |pattern: &str| string_regex(pattern).expect("a pattern").prop_map(Value::from).boxed();
    match &schema["type"] {
        Value::String(kind) => match kind.as_str() {
            "object" => object(schema, definitions),
            "array" => {
                let bound = |name: &str| schema[name].as_u64().map(|bound| bound as usize);
                let (min, max) = (bound("minItems").unwrap_or(0), bound("maxItems").unwrap_or(60));
                let few = max.min(min + 3);
                let entry = valid(&schema["items"], definitions);
                prop::collection::vec(entry, min..=few).prop_map(Value::from).boxed()
            }
            "null" => Just(Value::Null).boxed(),
            "number" => (0..=MINOR_UNITS_MAX).prop_map(amount).boxed(),
            "integer" => (1..=1000_u64).prop_map(Value::from).boxed(),
            "string" => match (schema["format"].as_str(), schema["pattern"].as_str()) {
                (Some("uuid"), _) => text("[0-9a-fA-F]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
                (Some("date-time"), _) => text(
                    r"[12][0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])",
                ),
                // Repeated without a bound, the parts of an address and of a name would be too long too often.
                (_, Some(pattern)) if pattern.contains('@') => text(
                    r"[a-z!#$%&'*+/=?^_`{|}~-]{1,20}(\.[a-z0-9]{1,8})?@([a-z0-9]([a-z0-9-]{0,9}[a-z0-9])?\.){1,3}([A-Za-z]{2,9}|xn--[a-z0-9]{1,9})",
                ),
                (_, Some(pattern)) => {
                    let pattern = pattern.trim_start_matches('^').trim_end_matches('$');
                    let bounded = pattern.strip_suffix('+').map(|one| format!("{one}{{1,30}}"));
                    text(bounded.as_deref().unwrap_or(pattern))
                }
                other => panic!("a text of {other:?}"),
            },
            other => panic!("the type {other}"),
        },
        Value::Array(_) => {
            prop_oneof![Just(Value::Null), any::<u32>().prop_map(Value::from)].boxed()
        }
        other => panic!("the type {other}"),
    }
}

fn object(schema: &Value, definitions: &Value) -> BoxedStrategy<Value> {
    let properties = schema["properties"].as_object().expect("an object has properties");
    let fields: Vec<_> = properties
        .iter()
        .map(|(name, schema)| {
            valid(schema, definitions).prop_map({
                let name = name.clone();
                move |value| (name.clone(), value)
            })
        })
        .collect();
    fields.prop_map(|fields| Value::Object(fields.into_iter().collect())).boxed()
}

fn amount(units: i64) -> Value {
    serde_json::from_str(&format!("{}.{:02}", units / 100, units % 100)).expect("a number")
}

/// Makes the totals right and the products distinct, so that events are taken, too.
fn with_right_totals(mut event: Value) -> Value {
    let data = &mut event["data"];
    for list in ["items", "short"] {
        let lines = data.get_mut(list).and_then(Value::as_array_mut);
        for (place, line) in lines.into_iter().flatten().enumerate() {
            line["product_id"] = json!(format!("p-{place}"));
        }
    }
    if data.get("total_price").is_none() {
        return event;
    }
    let mut sum = 0;
    for line in data["items"].as_array_mut().expect("a list") {
        let price: Money = line["unit_price"].to_string().parse().expect("the schema takes it");
        let price = price.minor() % PRICE_MINOR_MAX;
        let total = price * line["quantity"].as_i64().expect("a whole number");
        line["unit_price"] = amount(price);
        line["line_total"] = amount(total);
        sum += total;
    }
    data["total_price"] = amount(sum);
    event
}

/// What readers have been known to disagree about.
fn odd_values() -> Vec<Value> {
    let texts = [
        "",
        " ",
        "\u{3000}",
        "\u{feff}",
        "\u{0}",
        "\n",
        "a\n",
        "\u{85}",
        "\u{7f}",
        "\u{fffe}",
        "\u{ffff}",
        "\u{1fffe}",
        "\u{2028}",
        "ж",
        "1.0",
        "1.7",
        "+1.0",
        "1.+0",
        "01.0",
        "1.",
        "1.0.0",
        "1.999999999",
        "1.9999999999",
        "2.0",
        "1",
        "order-service",
        "product-service",
        "OrderCreated",
        "StockReserved",
        "uah",
        "UAHH",
        "UAH\n",
        "a b",
        "a/b",
        "x@y",
        "a@b.co",
        "a@b!c.com",
        "a@x_y.co",
        "a@x.c",
        "a@1.2.3.4",
        "a@x.co.",
        "a@-x.com",
        "a@x-.com",
        "a@x..com",
        ".a@x.com",
        "a.@x.com",
        "a..b@x.com",
        "\"a\"@x.com",
        "a@[1.2.3.4]",
        "a@xn--x.com",
        "a@x.xn--p1ai",
        "a@x.xn--",
        "a@x.xn--p1ai-",
        "a@x.c0m",
        "A@X.COM",
        "a@x.com ",
        "a(b)@x.com",
        "A <a@x.com>",
        "a@b@x.com",
        "{0198c9a4-7a52-7c4e-9f0e-3a1f6c2b7d11}",
        "urn:uuid:0198c9a4-7a52-7c4e-9f0e-3a1f6c2b7d11",
        "0198c9a47a527c4e9f0e3a1f6c2b7d11",
        "0198C9A4-7A52-7C4E-9F0E-3A1F6C2B7D11",
        "00000000-0000-0000-0000-000000000000",
        "0198c9a4-7a52-7c4e-9f0e-3a1f6c2b7d1",
        "0198c9a4_7a52_7c4e_9f0e_3a1f6c2b7d11",
        "2025-11-20 10:35:00Z",
        "2025-11-20t10:35:00z",
        "2025-11-20T10:35:00",
        "2025-11-20T10:35Z",
        "2025-11-20T10:35:60Z",
        "2016-12-31T23:59:60Z",
        "2025-02-30T10:35:00Z",
        "2024-02-29T10:35:00Z",
        "2100-02-29T10:35:00Z",
        "2025-11-20T24:00:00Z",
        "2025-11-20T10:35:00+02",
        "2025-11-20T10:35:00+0200",
        "2025-11-20T10:35:00-00:00",
        "2025-11-20T10:35:00+24:00",
        "2025-11-20T10:35:00Z[UTC]",
        "2025-11-20T10:35:00.Z",
        "2025-11-20T10:35:00.1234567890Z",
        "0000-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "20251120T103500Z",
        "-009999-01-01T00:00:00Z",
        "2025-W47-4T10:35:00Z",
    ];
    let numbers = [
        "0",
        "-0",
        "-0.0",
        "1",
        "-1",
        "0.1",
        "0.29",
        "0.07",
        "4.35",
        "1.1",
        "0.001",
        "1.005",
        "5000.001",
        "1.5",
        "5.0",
        "1e2",
        "5e-1",
        "1e-3",
        "1000",
        "1000.0",
        "1001",
        "1000.00000000001",
        "2147483648",
        "4294967296",
        "9007199254740991",
        "9007199254740992",
        "18446744073709551615",
        "18446744073709551616",
        "90071992547409.91",
        "90071992547409.9",
        "90071992547409.92",
        "90071992547410",
        "123456789012.34",
        "1e15",
        "1e28",
        "1e300",
        "1e-300",
    ];
    let number = |text: &str| serde_json::from_str::<Value>(text).expect("a number");
    let others = [Value::Null, json!(true), json!([]), json!({}), json!([{}]), json!([[]])];
    let long =
        [63, 64, 65, 128, 129, 200, 201, 254, 255, 10_240, 10_241].map(|n| json!("x".repeat(n)));
    let addresses = [64, 65].map(|n| json!(format!("{}@x.com", "a".repeat(n))));
    let labels = [63, 64].map(|n| json!(format!("a@{}.com", "x".repeat(n))));
    let domains = [30, 31].map(|n| json!(format!("a@{}com", "xxxxxxx.".repeat(n))));
    texts
        .into_iter()
        .map(Value::from)
        .chain(numbers.into_iter().map(number))
        .chain(others)
        .chain(long)
        .chain(addresses)
        .chain(labels)
        .chain(domains)
        .collect()
}

fn odd_value() -> impl Strategy<Value = Value> {
    prop::sample::select(odd_values())
}

#[derive(Debug, Clone)]
enum Damage {
    Remove,
    Replace(Value),
    /// By another value of the same event.
    Swap(Index),
    /// A field that nobody knows, in an object.
    AddUnknown(Value),
    /// The values of an object without their names, or the object in a list.
    Positional(bool),
    /// An entry of a list as often as this.
    Repeat(usize),
    /// A character in a text.
    Insert(Index, char),
    /// Another amount or count, near the first.
    Shift(i64),
}

fn damage() -> impl Strategy<Value = Damage> {
    let odd_char = prop::sample::select(vec![
        'a',
        ' ',
        '\n',
        '\t',
        '\u{0}',
        '\u{85}',
        '\u{a0}',
        '\u{fffd}',
        '\u{fffe}',
        '\u{ffff}',
        '.',
        '-',
        '@',
        '_',
        '+',
        '{',
        'Z',
        'T',
        '0',
        ':',
        '!',
        '~',
        'é',
        '\u{202e}',
        '\u{1f4a9}',
    ]);
    prop_oneof![
        1 => Just(Damage::Remove),
        6 => odd_value().prop_map(Damage::Replace),
        1 => any::<Index>().prop_map(Damage::Swap),
        1 => odd_value().prop_map(Damage::AddUnknown),
        2 => any::<bool>().prop_map(Damage::Positional),
        1 => prop::sample::select(vec![0, 2, 50, 51]).prop_map(Damage::Repeat),
        4 => (any::<Index>(), odd_char).prop_map(|(place, c)| Damage::Insert(place, c)),
        1 => (-2..=2_i64).prop_map(Damage::Shift),
    ]
}

/// The pointers of all values, that of the whole first.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| pointers(value, &format!("{at}/{name}"), found));
        }
        Value::Array(entries) => {
            let entries = entries.iter().enumerate();
            entries.for_each(|(place, value)| pointers(value, &format!("{at}/{place}"), found));
        }
        _ => {}
    }
}

fn damaged(mut event: Value, damages: &[(Index, Damage)]) -> Value {
    for (place, damage) in damages {
        let mut found = Vec::new();
        pointers(&event, "", &mut found);
        let pointer = place.get(&found).clone();
        if let Damage::Swap(other) = damage {
            let other =
                event.pointer(&found[other.index(found.len())]).expect("it was found").clone();
            *event.pointer_mut(&pointer).expect("it was found") = other;
            continue;
        }
        if let (Damage::Remove, Some((parent, name))) = (damage, pointer.rsplit_once('/')) {
            match event.pointer_mut(parent).expect("a parent is found") {
                Value::Object(fields) => _ = fields.remove(name),
                Value::Array(entries) => _ = entries.remove(name.parse().expect("a place")),
                _ => {}
            }
            continue;
        }
        apply(event.pointer_mut(&pointer).expect("it was found"), damage);
    }
    event
}

fn apply(value: &mut Value, damage: &Damage) {
    match (damage, value) {
        (Damage::Replace(other), value) => *value = other.clone(),
        (Damage::AddUnknown(other), Value::Object(fields)) => {
            fields.insert("unknown".into(), other.clone());
        }
        (Damage::Positional(true), value) if value.is_object() => *value = json!([value.take()]),
        (Damage::Positional(_), value) => {
            if let Value::Object(fields) = value {
                // In the order in which the types have them, which the readers that serde derives go by.
                let fields: Map<String, Value> = std::mem::take(fields);
                let order = [
                    "event_type",
                    "event_id",
                    "event_version",
                    "timestamp",
                    "source",
                    "correlation_id",
                    "data",
                    "order_id",
                    "product_id",
                    "product_name",
                    "quantity",
                    "requested",
                    "available",
                    "items",
                    "short",
                    "unit_price",
                    "line_total",
                    "total_price",
                    "amount",
                    "currency",
                    "customer_email",
                    "payment_id",
                    "reason",
                ];
                let values = order.iter().filter_map(|name| fields.get(*name).cloned()).collect();
                *value = Value::Array(values);
            }
        }
        (Damage::Repeat(count), Value::Array(entries)) => {
            let Some(first) = entries.first().cloned() else { return };
            *entries = vec![first; *count];
            for (place, entry) in
                entries.iter_mut().enumerate().filter(|(_, entry)| entry.is_object())
            {
                entry["product_id"] = json!(format!("p-{place}"));
            }
        }
        (Damage::Insert(place, c), Value::String(text)) => {
            let places: Vec<usize> =
                text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
            text.insert(*place.get(&places), *c);
        }
        (Damage::Shift(by), Value::Number(number)) => {
            if let Some(count) = number.as_i64() {
                *number = count.saturating_add(*by).into();
            } else if let Ok(units) = number.to_string().parse::<Money>().map(Money::minor)
                && let Value::Number(shifted) = amount((units + by).max(0))
            {
                *number = shifted;
            }
        }
        _ => {}
    }
}

fn event() -> impl Strategy<Value = Value> {
    let of_type = |event_type: EventType| {
        let schema = schema_of(event_type);
        let valid = valid(&schema, &schema["$defs"]);
        let right = valid.clone().prop_map(with_right_totals);
        prop_oneof![1 => Just(sample(event_type)), 1 => valid, 3 => right].boxed()
    };
    proptest::strategy::Union::new(EventType::ALL.map(of_type))
}

/// Compares the verdicts about one event, and says what they were.
fn compare(validators: &HashMap<&str, Validator>, event: &Value) -> Result<bool, TestCaseError> {
    let validator = event["event_type"].as_str().and_then(|name| validators.get(name));
    let by_schema = validator.is_some_and(|validator| validator.is_valid(event));
    let wanted = by_schema && holds_beyond_the_schema(event);
    // As text: money is exact only there.
    let decoded = Event::decode(event.to_string().as_bytes());
    let shown: String = event.to_string().chars().take(2000).collect();
    prop_assert_eq!(
        decoded.is_ok(),
        wanted,
        "schema: {}, code: {:?}\n{}",
        by_schema,
        decoded.err(),
        shown
    );
    if let Ok(decoded) = decoded {
        let again: Value = serde_json::from_str(&decoded.encode()).expect("JSON");
        prop_assert!(validator.is_some_and(|v| v.is_valid(&again)), "written: {again}");
        prop_assert_eq!(Event::decode(decoded.encode().as_bytes()), Ok(decoded));
    }
    Ok(wanted)
}

#[test]
fn code_and_schema_agree_on_events_made_from_the_schema_and_near_it() {
    let validators = validators();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: CASES,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let damages = prop::collection::vec((any::<Index>(), damage()), 0..=DAMAGES_MAX);
    let (taken, refused) = (std::cell::Cell::new(0_u32), std::cell::Cell::new(0_u32));
    let result = runner.run(&(event(), damages), |(event, damages)| {
        let verdict = compare(&validators, &damaged(event, &damages))?;
        let count = if verdict { &taken } else { &refused };
        count.set(count.get() + 1);
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
    // Otherwise it would be agreement on one verdict only.
    for count in [taken.get(), refused.get()] {
        assert!(count > CASES / 10, "{} taken, {} refused", taken.get(), refused.get());
    }
}

#[test]
fn code_and_schema_agree_on_every_odd_value_in_every_place() {
    let validators = validators();
    let odd = odd_values();
    for event_type in EventType::ALL {
        let sample = sample(event_type);
        let mut found = Vec::new();
        pointers(&sample, "", &mut found);
        for (pointer, value) in found.iter().flat_map(|p| odd.iter().map(move |v| (p, v))) {
            let mut event = sample.clone();
            *event.pointer_mut(pointer).expect("it was found") = value.clone();
            compare(&validators, &event).unwrap_or_else(|failure| panic!("{pointer}: {failure}"));
        }
    }
}

fn refusal(event: &Value) -> String {
    Event::decode(event.to_string().as_bytes()).expect_err("it breaks a rule").to_string()
}

#[test]
fn what_a_schema_cannot_state_is_checked_by_the_code() {
    let good = sample(EventType::OrderCreated);
    let with = |pointer: &str, value: Value| {
        let mut event = good.clone();
        *event.pointer_mut(pointer).expect("a field of the sample") = value;
        event
    };
    assert_eq!(
        refusal(&with("/data/items/0/line_total", json!(4999.99))),
        "data.items[0]: line_total must be unit_price times quantity"
    );
    assert_eq!(
        refusal(&with("/data/total_price", json!(5000.01))),
        "data: total_price must be the sum of the lines"
    );
    let line = &good["data"]["items"][0];
    let product = line["product_id"].as_str().expect("an id");
    assert_eq!(
        refusal(&with("/data/items", json!([line, line]))),
        format!("data.items: must have one line of product {product}")
    );
    assert!(
        refusal(&with("/timestamp", json!("1000-01-01T00:00:00+00:01")))
            .starts_with("timestamp: must be a moment")
    );
    // The same of the types of other events.
    for (event_type, list) in [
        (EventType::StockReserved, "items"),
        (EventType::StockReleased, "items"),
        (EventType::StockRejected, "items"),
        (EventType::StockRejected, "short"),
        (EventType::OrderRejected, "items"),
    ] {
        let mut event = sample(event_type);
        let first = event["data"][list][0].clone();
        event["data"][list] = json!([first, first]);
        assert!(
            refusal(&event).starts_with(&format!("data.{list}: must have one line of product"))
        );
    }
}

#[test]
fn an_event_without_lines_or_with_too_many_is_refused() {
    let has_lines = |event: &Value| event["data"].get("items").is_some();
    for mut event in EventType::ALL.map(sample).into_iter().filter(has_lines) {
        event["data"]["items"] = json!([]);
        assert_eq!(refusal(&event), "data.items: must have 1 to 50 lines, not 0");
    }
    let mut event = sample(EventType::StockReserved);
    let line = |place| json!({ "product_id": format!("p-{place}"), "quantity": 1 });
    event["data"]["items"] = (0..51).map(line).collect();
    assert_eq!(refusal(&event), "data.items: must have 1 to 50 lines, not 51");
}

#[test]
fn an_array_in_the_place_of_an_object_is_refused_at_every_depth() {
    for event_type in EventType::ALL {
        let sample = sample(event_type);
        let mut found = Vec::new();
        pointers(&sample, "", &mut found);
        for pointer in found.iter().filter(|p| sample.pointer(p).is_some_and(Value::is_object)) {
            let mut event = sample.clone();
            apply(event.pointer_mut(pointer).expect("it was found"), &Damage::Positional(false));
            let refusal = refusal(&event);
            assert!(refusal.contains("expected an object"), "{event_type} {pointer}: {refusal}");
        }
    }
}

#[test]
fn the_source_is_the_service_of_the_type() {
    let mut event = sample(EventType::StockReserved);
    event["source"] = json!("order-service");
    assert_eq!(refusal(&event), r#"source: must be "product-service" for StockReserved"#);
}
