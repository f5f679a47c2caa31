//! A page of another origin in a real browser calls the API of a stack that was deployed with `CorsOrigin=*`.

use std::{
    io::{Read, Write},
    net::TcpListener,
};

use anyhow::Result;
use e2e::{Stack, api::order_body};
use serde_json::{Value, json};

use e2e::browser::Browser;

/// Serves an empty page on a port of its own, which makes it an origin of its own, until the test ends.
fn serve_page() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}/", listener.local_addr()?);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let page = "<!doctype html><title>A shop's page</title>";
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n";
            let _ = write!(stream, "{head}Content-Length: {}\r\n\r\n{page}", page.len());
        }
    });
    Ok(url)
}

/// What a page gets from the API: the status, the headers that it may read, and the answer.
fn fetch(browser: &mut Browser, url: &str, request: &Value) -> Result<Value> {
    browser.value(&format!(
        "fetch({url}, {request}).then(async answer => ({{
           status: answer.status,
           headers: Object.fromEntries(answer.headers),
           body: await answer.json(),
         }}))",
        url = json!(url),
    ))
}

#[tokio::test]
async fn a_page_of_another_origin_places_an_order_and_reads_what_is_said_of_it() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Sold by a page", "10", 10).await?;
    let mut browser = Browser::start()?;
    browser.open(&serve_page()?)?;
    let api = stack.setting("API_URL").to_owned();
    let placed = fetch(
        &mut browser,
        &format!("{api}/orders"),
        &json!({
            "method": "POST",
            // Both need a preflight.
            "headers": { "Content-Type": "application/json", "Idempotency-Key": uuid::Uuid::new_v4().to_string() },
            "body": order_body("page@example.com", &[(&product, 1)]),
        }),
    )?;
    assert_eq!(placed["status"], 201, "{placed}");
    let id = placed["body"]["id"].as_str().unwrap_or_default();
    assert_eq!(placed["headers"]["location"], format!("orders/{id}"), "{placed}");
    assert!(placed["headers"]["x-correlation-id"].is_string(), "{placed}");
    assert_eq!(stack.api.wait_until_settled(id).await?, "confirmed");

    let read = fetch(&mut browser, &format!("{api}/products/{product}"), &json!({}))?;
    assert_eq!(
        (&read["status"], read["headers"]["etag"].is_string()),
        (&200.into(), true),
        "{read}"
    );
    let token = &placed["body"]["order_token"];
    let cancel = json!({ "method": "POST", "headers": { "Order-Token": token } });
    let cancelled = fetch(&mut browser, &format!("{api}/orders/{id}/cancel"), &cancel)?;
    assert_eq!(cancelled["body"]["status"], "cancelled", "{cancelled}");
    // Errors are read as answers are, and not a "network error".
    for (path, status) in [("/orders/no-such", 404), ("/nowhere", 404)] {
        let error = fetch(&mut browser, &format!("{api}{path}"), &json!({}))?;
        assert_eq!(error["status"], status, "{error}");
        assert!(error["body"]["detail"].is_string(), "{error}");
    }
    Ok(())
}
