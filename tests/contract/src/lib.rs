//! What others rely on: the HTTP API's description, made of what each function says of its calls.
//!
//! In: the functions' operations. Out: docs/openapi.json, as the tests compare it with the committed file, which order-api serves.

use http_api::openapi::{Operation, document};
use serde_json::Value;

const DESCRIPTION: &str = "Orders, and the products that can be ordered. An order that was accepted takes effect exactly once. \
     Errors are problem+json (RFC 9457) with a stable `type`: docs/problems.md has a section for each. Clients ignore fields \
     that they do not know, and expect further problem types and statuses of orders. A field that another call takes is \
     refused by name; one that no call knows is ignored.";

/// Every call of the API.
#[must_use]
pub fn operations() -> Vec<Operation> {
    [order::openapi::operations(), product::openapi::operations()].concat()
}

/// The description in OpenAPI 3.1.
#[must_use]
pub fn openapi() -> Value {
    document(&operations(), DESCRIPTION)
}
