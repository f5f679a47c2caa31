//! What the product service's HTTP calls are, for the API's description: made of the types and limits that
//! [`crate::http`] reads and writes.

use events::{Currency, Id, Money, Name};
use http_api::{
    ProblemType,
    openapi::{
        Access::{Administrators, Anyone},
        Answer, Operation, Parameter, idempotency_key, named, of, or_null, page_parameters,
        precondition,
    },
};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use crate::{
    http::{PRICE_MINOR_MAX, ProductPage, ProductResponse, StockResponse},
    rules::{Product, STOCK_MAX},
};

/// The calls of product-api.
#[must_use]
pub fn operations() -> Vec<Operation> {
    vec![
        Operation {
            method: "POST",
            path: "/products",
            id: "createProduct",
            summary: "Add a product to the shop",
            description: "Stock, category and currency may be left out: 0, none, and the shop's.".into(),
            access: Administrators,
            parameters: vec![],
            body: Some((
                new_product,
                vec![
                    ("full", json!({ "name": "Lamp", "price": 20.5, "stock": 10, "category": "home" })),
                    ("short", json!({ "name": "Lamp", "price": 20.5 })),
                ],
            )),
            answers: vec![Answer {
                status: 201,
                description: "The product.",
                body: Some((of::<ProductResponse>, example())),
                headers: &["Location", "ETag"],
            }],
            problems: vec![],
        },
        Operation {
            method: "GET",
            path: "/products",
            id: "listProducts",
            summary: "What the shop sells, page by page",
            description: "In no order that means anything.".into(),
            access: Anyone,
            parameters: [vec![category()], page_parameters()].concat(),
            body: None,
            answers: vec![page()],
            problems: vec![],
        },
        Operation {
            method: "GET",
            path: "/products/{id}",
            id: "getProduct",
            summary: "One product",
            description: "With its stock as it is. Not there if the shop does not sell it.".into(),
            access: Anyone,
            parameters: vec![if_none_match()],
            body: None,
            answers: vec![answer("The product."), not_modified()],
            problems: vec![],
        },
        Operation {
            method: "GET",
            path: "/admin/products",
            id: "listAllProducts",
            summary: "All products, also those that the shop does not sell",
            description: "As GET /products.".into(),
            access: Administrators,
            parameters: [vec![category()], page_parameters()].concat(),
            body: None,
            answers: vec![page()],
            problems: vec![],
        },
        Operation {
            method: "GET",
            path: "/admin/products/{id}",
            id: "getAnyProduct",
            summary: "One product, also if the shop does not sell it",
            description: "As GET /products/{id}.".into(),
            access: Administrators,
            parameters: vec![if_none_match()],
            body: None,
            answers: vec![answer("The product."), not_modified()],
            problems: vec![],
        },
        Operation {
            method: "PATCH",
            path: "/products/{id}",
            id: "changeProduct",
            summary: "Change a product",
            description: "What is absent stays; a category that is null is cleared. Orders keep the name and price at \
                          which they were made."
                .into(),
            access: Administrators,
            parameters: vec![if_match()],
            body: Some((
                product_change,
                vec![
                    ("price", json!({ "price": 19.9 })),
                    ("category", json!({ "category": null })),
                    ("withdrawal", json!({ "active": false })),
                ],
            )),
            answers: vec![answer("The product as it is now.")],
            problems: vec![ProblemType::PreconditionFailed],
        },
        Operation {
            method: "POST",
            path: "/products/{id}/stock",
            id: "changeStock",
            summary: "Add to a product's stock, or take from it",
            description: "It adds to a number, so that it must not be carried out twice: the Idempotency-Key is required."
                .into(),
            access: Administrators,
            parameters: vec![idempotency_key(true), if_match()],
            body: Some((stock_change, vec![("more", json!({ "delta": 20 })), ("fewer", json!({ "delta": -3 }))])),
            answers: vec![Answer {
                status: 200,
                description: "The stock as it is now. It is null if it was changed but could not be read.",
                body: Some((
                    of::<StockResponse>,
                    json!(StockResponse { id: product().product_id, stock: Some(30) }),
                )),
                headers: &[],
            }],
            problems: vec![
                ProblemType::StockOutOfRange,
                ProblemType::IdempotencyKeyRequired,
                ProblemType::PreconditionFailed,
            ],
        },
    ]
}

fn answer(description: &'static str) -> Answer {
    Answer {
        status: 200,
        description,
        body: Some((of::<ProductResponse>, example())),
        headers: &["ETag"],
    }
}

fn page() -> Answer {
    Answer {
        status: 200,
        description: "A page; the last has no `next_cursor`, and every other is full.",
        body: Some((of::<ProductPage>, json!({ "products": [example()], "next_cursor": null }))),
        headers: &[],
    }
}

fn not_modified() -> Answer {
    Answer {
        status: 304,
        description: "The client has it as it is.",
        body: None,
        headers: &["ETag"],
    }
}

fn if_none_match() -> Parameter {
    precondition("If-None-Match", "The ETag of what the client has: it is not sent again.")
}

fn if_match() -> Parameter {
    precondition(
        "If-Match",
        "The ETag of what the change is based on: it is made only if name, price, category and active are still those. A \
         change of stock in between is no obstacle.",
    )
}

fn category() -> Parameter {
    Parameter {
        name: "category",
        place: "query",
        required: false,
        description: "Only products of this category, by their ids.".into(),
        schema: json!({ "$ref": "#/components/schemas/Name" }),
        example: json!("home"),
    }
}

fn product() -> Product {
    Product {
        product_id: "7d0e2a3c-53f1-4f0e-8f51-1c3a3f0f9a11".parse::<Id>().expect("an id"),
        name: "Lamp".parse().expect("a name"),
        price: "20.5".parse().expect("an amount"),
        currency: Currency::default(),
        category: "home".parse().ok(),
        stock: 10,
        version: 1,
        active: true,
    }
}

fn example() -> Value {
    json!(ProductResponse::from(product()))
}

fn price() -> Value {
    let max = Money::from_minor(PRICE_MINOR_MAX).map(|max| max.to_string().parse::<f64>());
    json!({
        "description": "Of one piece, with at most two decimals.",
        "type": "number",
        "minimum": 0,
        "maximum": max.map(Result::unwrap_or_default).unwrap_or_default(),
    })
}

fn new_product(generator: &mut SchemaGenerator) -> Schema {
    let (name, currency) = (of::<Name>(generator), of::<Currency>(generator));
    let stock = json_schema!({ "type": "integer", "minimum": 0, "maximum": STOCK_MAX });
    let schema = json_schema!({
        "type": "object",
        "required": ["name", "price"],
        "properties": {
            "name": name,
            "price": price(),
            "category": or_null(&name),
            "stock": or_null(&stock),
            "currency": or_null(&currency),
            "active": { "type": ["boolean", "null"], "default": true },
        },
    });
    named(generator, "NewProduct", schema)
}

fn product_change(generator: &mut SchemaGenerator) -> Schema {
    let name = of::<Name>(generator);
    let properties = json!({
        "name": name, "price": price(), "category": or_null(&name), "active": { "type": "boolean" },
    });
    let any_of: Vec<_> = properties
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, _)| json!({ "required": [name] }))
        .collect();
    let schema = json_schema!({ "type": "object", "properties": properties, "anyOf": any_of });
    named(generator, "ProductChange", schema)
}

fn stock_change(generator: &mut SchemaGenerator) -> Schema {
    let max = i64::try_from(STOCK_MAX).unwrap_or(i64::MAX);
    let schema = json_schema!({
        "type": "object",
        "required": ["delta"],
        "properties": {
            "delta": {
                "description": "How many pieces are added, or taken if it is negative.",
                "type": "integer", "minimum": -max, "maximum": max, "not": { "const": 0 },
            },
        },
    });
    named(generator, "StockChange", schema)
}
