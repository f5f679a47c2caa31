//! What becomes of the spans that a collector has not taken when Lambda ends an environment.
//!
//! It runs the binaries of the last `make build`, which a `cargo test` of this test alone does not make anew.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::mpsc::{Receiver, Sender, channel},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use bench::{
    endpoint::Delays,
    lambda::Environment,
    shop::{Function, Shop, body_of, order_request},
};

/// How long a test waits for what has to come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A collector that takes the first request and never answers it, and answers all others.
fn start_collector() -> Result<(String, Receiver<Vec<u8>>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}", listener.local_addr()?);
    let (received, bodies) = channel();
    std::thread::spawn(move || {
        let mut unanswered = None;
        for stream in listener.incoming().flatten() {
            let is_first = unanswered.is_none();
            if receive(&stream, &received, !is_first).is_ok() && is_first {
                unanswered = Some(stream);
            }
        }
    });
    Ok((url, bodies))
}

fn receive(mut stream: &TcpStream, received: &Sender<Vec<u8>>, is_answered: bool) -> Result<()> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim_end().to_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    received.send(body)?;
    if is_answered {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
    }
    Ok(())
}

fn has_request_span(body: &[u8]) -> bool {
    String::from_utf8_lossy(body).contains("POST /orders")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_that_the_collector_did_not_take_are_sent_when_the_environment_ends() -> Result<()> {
    // The dev build's binaries are beside the folder of this test.
    let test = std::env::current_exe()?;
    let binaries = test.parent().and_then(|deps| deps.parent()).context("target/debug")?;
    let shop = Shop::deploy(binaries, Delays::NONE).await?;
    let mut product_api = shop.start(Function::ProductApi).await?;
    let product = shop.add_product(&mut product_api).await?;
    let (collector, bodies) = start_collector()?;
    let mut command = shop.command(Function::OrderApi);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector);
    let mut order_api = Environment::start(command).await?;

    let order = order_request(&product, "customer@example.com", None);
    body_of(&order_api.invoke(order.to_string()).await?, 201)?;
    ensure!(has_request_span(&bodies.recv_timeout(PATIENCE)?), "another span than the request's");
    // The environment is idle: the function has given the collector up, and would wait for the next invocation.
    let ended = tokio::task::spawn_blocking(|| order_api.terminate());
    tokio::time::timeout(PATIENCE, ended).await.context("the function to end")???;
    let at_the_end = bodies.recv_timeout(PATIENCE).context("spans at the end")?;
    ensure!(has_request_span(&at_the_end), "another span than the one that was left");
    Ok(())
}
