//! The services of others: whoever simulates one brings what answers its calls.
//!
//! In: calls to a host that is not AWS's. Out: what its service answers. Guarantee: what goes wrong on the way to AWS goes wrong on the
//! way there, too; a host that nobody serves is refused loudly.

use std::{collections::BTreeMap, fmt, sync::Arc};

use aws_smithy_runtime_api::client::orchestrator::HttpRequest;

use crate::{HOST, SimulatedAws, wire::Answer};

/// A call of a service that is not AWS's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ExternalCall {
    /// The host, without a port.
    pub host: String,
    /// Such as `POST`.
    pub method: String,
    /// With its query.
    pub path: String,
    /// Its headers, with names in small letters.
    pub headers: BTreeMap<String, String>,
    /// As it was sent.
    pub body: String,
}

/// What answers the calls of a host: whether it is to fail, decides the seed, and what a failure has done, the service.
type Serve = Arc<dyn Fn(&ExternalCall, bool) -> Answer + Send + Sync>;

/// The services by their hosts.
#[derive(Default)]
pub(crate) struct External(BTreeMap<String, Serve>);

impl fmt::Debug for External {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl SimulatedAws {
    /// Answers the calls of this host by `serve`, whose second argument says whether it is to fail.
    pub fn serve_host(
        &self,
        host: impl Into<String>,
        serve: impl Fn(&ExternalCall, bool) -> Answer + Send + Sync + 'static,
    ) {
        self.lock().external.0.insert(host.into(), Arc::new(serve));
    }
}

/// Reads a request, if it is not for AWS.
pub(crate) fn read(request: &HttpRequest, body: &[u8]) -> Option<ExternalCall> {
    let (_, rest) = request.uri().split_once("://")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    if host == HOST {
        return None;
    }
    let headers = request.headers().iter();
    Some(ExternalCall {
        host: host.to_owned(),
        method: request.method().to_owned(),
        path: format!("/{path}"),
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        body: String::from_utf8_lossy(body).into_owned(),
    })
}

/// Carries out a call.
pub(crate) fn serve(aws: &SimulatedAws, call: &ExternalCall, is_failing: bool) -> Answer {
    let serve = aws.lock().external.0.get(&call.host).cloned();
    match serve {
        Some(serve) => serve(call, is_failing),
        None => Answer::json_error(501, "NotImplemented", &call.host),
    }
}
