//! The little of HTTP/1.1 that the clients of a function speak: the AWS SDKs, and the runtimes of the Lambda Runtime API.
//!
//! In: a stream, and what answers requests. Out: answers, in their order. Guarantees: a request is answered only when it has
//! come in wholly; a connection is kept until its client closes it.
//!
//! It is not hyper, because what is measured includes this server, and hyper is not optimised in the dev build that the
//! harness is part of: optimising it there would have every AWS crate compiled again.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context, Result, bail};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpListener,
    task::{AbortHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

/// Maximum size of a body: Lambda's own limit of an event, and some.
/// <https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html>
const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A request that has come in wholly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// A header by its name in lower case.
    #[must_use]
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(one, _)| one == name);
        found.map(|(_, value)| value.as_str())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
}

impl Response {
    #[must_use]
    pub(crate) fn json(status: u16, body: impl ToString) -> Self {
        let headers = vec![("content-type", "application/json".to_owned())];
        Self { status, headers, body: body.to_string() }
    }
}

/// Answers requests.
pub(crate) trait Answers: Send + Sync + 'static {
    fn answer(&self, request: Request) -> impl Future<Output = Response> + Send;
}

/// A server on a free port of 127.0.0.1, for as long as it is kept.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) is_encrypted: bool,
    accepting: AbortHandle,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Server {
    /// # Errors
    /// No port is free.
    pub(crate) async fn start(
        answers: Arc<impl Answers>,
        encryption: Option<TlsAcceptor>,
    ) -> Result<Self> {
        let is_encrypted = encryption.is_some();
        let listener = TcpListener::bind("127.0.0.1:0").await.context("a free port")?;
        let address = listener.local_addr()?;
        let accepting = tokio::spawn(async move {
            // They end with the server.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (answers, encryption) = (answers.clone(), encryption.clone());
                connections.spawn(async move {
                    let _ = stream.set_nodelay(true);
                    // A client that has died has closed in the middle of a request; whoever waits for it says so.
                    let _ = match encryption {
                        None => serve(stream, &*answers).await,
                        Some(encryption) => match encryption.accept(stream).await {
                            Ok(stream) => serve(stream, &*answers).await,
                            Err(error) => Err(error.into()),
                        },
                    };
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, is_encrypted, accepting: accepting.abort_handle() })
    }
}

/// Answers the requests of a connection until its client closes it.
///
/// # Errors
/// The connection breaks, or what comes in is no HTTP/1.1 that is known here.
async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, answers: &impl Answers) -> Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream).await? {
        let response = answers.answer(request).await;
        stream.write_all(&written(&response)).await?;
        stream.flush().await?;
    }
    Ok(())
}

async fn read(
    stream: &mut BufReader<impl AsyncRead + AsyncWrite + Unpin>,
) -> Result<Option<Request>> {
    let Some(first) = read_line(stream).await? else { return Ok(None) };
    let mut parts = first.split(' ');
    let (Some(method), Some(path), Some("HTTP/1.1")) = (parts.next(), parts.next(), parts.next())
    else {
        bail!("no HTTP/1.1: {first}");
    };
    let (method, path) = (method.to_owned(), path.to_owned());
    let mut headers = Vec::new();
    loop {
        let line = read_line(stream).await?.context("the connection ended among headers")?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').with_context(|| format!("no header: {line}"))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut request = Request { method, path, headers, body: Vec::new() };
    if request.header("expect").is_some() {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        stream.flush().await?;
    }
    if request.header("transfer-encoding").is_some() {
        loop {
            let size = read_line(stream).await?.context("the connection ended in a body")?;
            let size = size.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).context("the size of a chunk")?;
            read_bytes(stream, size, &mut request.body).await?;
            // What follows a chunk, and of the last one what follows the body: trailers are not used here.
            read_line(stream).await?;
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = request.header("content-length") {
        let length = length.parse().context("the length of a body")?;
        read_bytes(stream, length, &mut request.body).await?;
    }
    Ok(Some(request))
}

/// A line without its end, or `None` if the client has closed the connection.
async fn read_line(stream: &mut BufReader<impl AsyncRead + Unpin>) -> Result<Option<String>> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    line.truncate(line.trim_end_matches(['\r', '\n']).len());
    Ok(Some(line))
}

async fn read_bytes(
    stream: &mut BufReader<impl AsyncRead + Unpin>,
    count: usize,
    body: &mut Vec<u8>,
) -> Result<()> {
    let before = body.len();
    if before + count > BODY_BYTES_MAX {
        bail!("a body of more than {BODY_BYTES_MAX} bytes");
    }
    body.resize(before + count, 0);
    stream.read_exact(&mut body[before..]).await?;
    Ok(())
}

/// One write for all of it: two would be two packets, and a wait for the first one's acknowledgement.
fn written(response: &Response) -> Vec<u8> {
    let Response { status, headers, body } = response;
    let mut text = format!("HTTP/1.1 {status} -\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    text += "\r\n";
    text += body;
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_all(text: &str) -> Result<Vec<Request>> {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        client.write_all(text.as_bytes()).await?;
        client.shutdown().await?;
        let (mut server, mut requests) = (BufReader::new(server), Vec::new());
        while let Some(request) = read(&mut server).await? {
            requests.push(request);
        }
        Ok(requests)
    }

    #[tokio::test]
    async fn requests_follow_each_other_with_bodies_of_a_length_and_in_chunks() -> Result<()> {
        let text = "POST /a HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi\
            PUT /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n\
            GET /c HTTP/1.1\r\nX-Amz-Target: a.B\r\n\r\n";
        let requests = read_all(text).await?;
        let bodies: Vec<_> = requests.iter().map(|one| (&*one.path, &*one.body)).collect();
        assert_eq!(bodies, [("/a", &b"hi"[..]), ("/b", b"hello"), ("/c", b"")]);
        assert_eq!(requests[2].header("x-amz-target"), Some("a.B"));
        Ok(())
    }

    #[tokio::test]
    async fn half_a_request_is_none() {
        for text in ["POST /a HTTP/1.1\r\nContent-Length: 2\r\n\r\nh", "POST /a HTTP/1.1\r\nA: b"] {
            assert!(read_all(text).await.is_err(), "{text}");
        }
    }
}
