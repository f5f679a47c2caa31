//! Calls by pages of another origin, on a stack that was deployed with `CorsOrigin=https://shop.example.com`.

use anyhow::Result;
use e2e::{Answer, Capability, Stack, api::order_body, expect_status};

const ORIGIN: &str = "https://shop.example.com";

fn assert_readable(answer: &Answer, what: &str) {
    let header = |name: &str| {
        let value = answer.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    assert_eq!(header("access-control-allow-origin"), ORIGIN, "{what}");
    assert_eq!(header("access-control-allow-credentials"), "", "{what}");
    for name in ["Location", "ETag", "Retry-After", "X-Correlation-Id"] {
        let exposed = header("access-control-expose-headers");
        assert!(exposed.split(", ").any(|exposed| exposed == name), "{what}: {exposed}");
    }
}

#[tokio::test]
async fn every_path_answers_the_preflight_of_a_page() -> Result<()> {
    let stack = Stack::load().await?;
    for path in [
        "/orders",
        "/orders/some-id",
        "/orders/some-id/cancel",
        "/orders/some-id/ship",
        "/orders/some-id/events",
        "/admin/orders/some-id",
        "/admin/orders/some-id/cancel",
        "/products",
        "/products/some-id",
        "/products/some-id/stock",
        "/",
        "/nowhere/at/all",
    ] {
        let headers = [
            ("origin", ORIGIN),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "content-type,idempotency-key,order-token"),
        ];
        let answer = stack.api.call_with("OPTIONS", path, "", &headers).await?;
        assert_eq!((answer.status, answer.text.as_str()), (204, ""), "{path}");
        assert_readable(&answer, path);
        let allowed = &answer.headers["access-control-allow-headers"];
        for name in ["Content-Type", "Idempotency-Key", "Order-Token", "Authorization"] {
            assert!(allowed.to_str()?.contains(name), "{path}: {allowed:?}");
        }
        let methods = answer.headers["access-control-allow-methods"].to_str()?;
        assert!(methods.contains("POST") && methods.contains("PATCH"), "{path}: {methods}");
    }
    Ok(())
}

#[tokio::test]
async fn a_page_may_read_answers_errors_and_what_the_gateway_says_itself() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Seen by a page", "10", 10).await?;
    let page = [("origin", ORIGIN)];
    let order = order_body("page@example.com", &[(&product, 1)]);
    for (method, path, body, status) in [
        ("POST", "/orders", order.as_str(), 201),
        ("POST", "/orders", "{}", 400),
        ("GET", "/orders/no-such", "", 404),
        ("POST", "/orders/no-such/cancel", "", 403),
        ("GET", "/products", "", 200),
        ("GET", "/nowhere", "", 404),
        ("DELETE", "/orders", "", 405),
    ] {
        let answer = stack.api.call_with(method, path, body, &page).await?;
        expect_status(&answer, status)?;
        assert_readable(&answer, &format!("{method} {path}"));
    }
    if stack.can(Capability::RefusesUnsignedCalls) {
        let unsigned = stack.api.call_with("POST", "/products", "{}", &page).await?;
        assert_eq!(unsigned.json["type"], "urn:orderflow:problem:unsigned");
        assert_readable(&unsigned, "what the gateway refuses");
    }
    Ok(())
}
