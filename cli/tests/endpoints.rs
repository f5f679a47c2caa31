//! What the command says of an endpoint that is no AWS: within a few seconds, in one sentence.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A call ends after 5 s; the rest is for a busy machine.
const PATIENCE: Duration = Duration::from_secs(9);

/// Runs `orderflow status` against an endpoint; the exit code and stderr.
fn status_at(endpoint: &str, arguments: &[&str]) -> (i32, String) {
    let begun = Instant::now();
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_orderflow"))
        .arg("status")
        .args(arguments)
        .env_clear()
        .env("HOME", "/nonexistent")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_ENDPOINT_URL", endpoint)
        .env("AWS_REGION", "eu-central-1")
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .stdin(Stdio::null())
        .output()
        .expect("the command runs");
    let stderr = String::from_utf8_lossy(&stderr).into_owned();
    assert!(begun.elapsed() < PATIENCE, "{:?}: {stderr}", begun.elapsed());
    assert!(stdout.is_empty(), "an error leaves stdout to scripts");
    (status.code().unwrap_or(-1), stderr)
}

/// A server on a free port; each connection is given to `answer`.
fn server(answer: impl Fn(TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || listener.incoming().flatten().for_each(answer));
    format!("http://{address}")
}

fn assert_one_sentence(stderr: &str) {
    assert_eq!(stderr.trim_end().lines().count(), 1, "{stderr}");
    for dump in ["{", "}", "Error(", "Some(", "None", "no code", "no message", "dispatch failure"] {
        assert!(!stderr.contains(dump), "{dump:?} is in {stderr}");
    }
}

#[test]
fn an_endpoint_that_hangs_is_one_sentence_after_five_seconds() {
    // Taken, never answered: the connections are kept open.
    let hanging = server(std::mem::forget);
    let (code, stderr) = status_at(&hanging, &[]);
    assert_eq!(code, 1);
    assert!(stderr.contains("does not answer (none came within 5 s)"), "{stderr}");
    assert_one_sentence(&stderr);
}

#[test]
fn an_endpoint_that_closes_or_resets_the_connection_is_one_sentence() {
    let closing = server(drop);
    // Closed with what the client has sent still unread: the system resets the connection.
    let resetting = server(|mut connection| {
        let _ = connection.read(&mut [0]);
    });
    for endpoint in [closing, resetting] {
        let (code, stderr) = status_at(&endpoint, &[]);
        assert_eq!(code, 1);
        assert!(stderr.contains("AWS does not answer ("), "{stderr}");
        assert_one_sentence(&stderr);
    }
}

#[test]
fn an_endpoint_that_is_not_aws_is_named_as_such() {
    for (status, body) in [
        ("200 OK", "<!doctype html><title>A shop</title>"),
        ("404 Not Found", "<html>no such page</html>"),
        ("502 Bad Gateway", ""),
        ("200 OK", r#"{"hello":"world"}"#),
    ] {
        let endpoint = server(move |mut connection| {
            let _ = connection.read(&mut [0; 16_384]);
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-type: text/html\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
            let _ = connection.write_all(answer.as_bytes());
        });
        let (code, stderr) = status_at(&endpoint, &[]);
        assert_eq!(code, 1);
        assert!(stderr.contains("is not AWS") && stderr.contains(&status[..3]), "{stderr}");
        assert_one_sentence(&stderr);
    }
}

#[test]
fn what_is_no_url_is_a_wrong_command_line_in_a_variable_too() {
    for url in ["notaurl", "localhost:4566"] {
        let (code, stderr) = status_at(url, &[]);
        assert!(code == 2 && stderr.contains("is no endpoint"), "{stderr}");
        assert_eq!(stderr.matches(url).count(), 1, "{stderr}");
        let (code, stderr) = status_at("http://127.0.0.1:9", &["--endpoint-url", url]);
        assert!(code == 2 && stderr.contains("is no endpoint"), "{stderr}");
    }
}
