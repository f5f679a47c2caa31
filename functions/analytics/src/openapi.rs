//! What the analytics service's HTTP calls are, for the API's description: made of the types and limits that [`crate::http`] reads
//! and writes.

use events::{Currency, Id};
use http_api::openapi::{
    Access::Administrators, Answer, Operation, Parameter, of, page_parameters_of,
};
use order::rules::Status;
use serde_json::{Value, json};

use crate::{
    http::{DailyPage, ROWS_MAX, RowResponse},
    rules::DAYS_MAX,
};

/// The calls of analytics-api.
#[must_use]
pub fn operations() -> Vec<Operation> {
    vec![Operation {
        method: "GET",
        path: "/analytics/daily",
        id: "listDailyAnalytics",
        summary: "Units and revenue by day, product and status",
        description: format!(
            "What came to each status on each day (UTC), by the events of orders: an order that is placed on one day and \
             confirmed on the next counts as `pending` there and as `confirmed` here. A few seconds behind. At most \
             {DAYS_MAX} days; by day, then by product and status."
        ),
        access: Administrators,
        parameters: [
            vec![day("from", "The first day."), day("to", "The last day.")],
            page_parameters_of(ROWS_MAX, ROWS_MAX),
        ]
        .concat(),
        body: None,
        answers: vec![Answer {
            status: 200,
            description: "A page; the last has no `next_cursor`, and every other is full.",
            body: Some((of::<DailyPage>, example())),
            headers: &["Cache-Control"],
        }],
        problems: vec![],
    }]
}

fn day(name: &'static str, description: &str) -> Parameter {
    Parameter {
        name,
        place: "query",
        required: true,
        description: description.into(),
        schema: json!({ "type": "string", "format": "date" }),
        example: json!("2026-05-03"),
    }
}

fn example() -> Value {
    let row = RowResponse {
        day: "2026-05-03".into(),
        product_id: "7d0e2a3c-53f1-4f0e-8f51-1c3a3f0f9a11".parse::<Id>().expect("an id"),
        status: Status::Confirmed,
        units: 12,
        revenue: "246".parse().expect("an amount"),
        currency: Currency::default(),
    };
    json!(DailyPage { rows: vec![row], next_cursor: None })
}
