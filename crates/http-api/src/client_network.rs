//! Where a request comes from, for limits per client.
//!
//! In: what the gateway says of the connection. Out: an IPv4 address, or the /64 that an IPv6 address is in: a client has
//! all addresses of that to choose from. Guarantee: no header counts, which anybody can write.

use std::{
    convert::Infallible,
    fmt,
    net::{IpAddr, Ipv6Addr},
};

use axum::extract::OptionalFromRequestParts;
use http::request::Parts;
use lambda_http::request::RequestContext;

/// Bits of an IPv6 address that one subnet shares (RFC 4291, section 2.5.4).
const SUBNET_BITS: u32 = 64;

/// The network of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientNetwork(IpAddr);

impl ClientNetwork {
    /// The network that an address is in.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        // An IPv4 address may be written as one of IPv6 (RFC 4291, section 2.5.5.2).
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let subnet = u128::from(address) >> SUBNET_BITS << SUBNET_BITS;
                Self(Ipv6Addr::from(subnet).into())
            }
            v4 @ IpAddr::V4(_) => Self(v4),
        }
    }
}

impl fmt::Display for ClientNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => write!(f, "{address}"),
            IpAddr::V6(subnet) => write!(f, "{subnet}/{SUBNET_BITS}"),
        }
    }
}

/// `None` for a request that did not come through the gateway: an operator's, by the right to invoke the function.
impl<S: Sync> OptionalFromRequestParts<S> for ClientNetwork {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        let source = match parts.extensions.get::<RequestContext>() {
            Some(RequestContext::ApiGatewayV1(context)) => context.identity.source_ip.as_deref(),
            Some(RequestContext::ApiGatewayV2(context)) => context.http.source_ip.as_deref(),
            _ => None,
        };
        Ok(source.and_then(|source| source.parse().ok()).map(Self::of))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_an_ipv4_address_or_the_subnet_of_an_ipv6_one() {
        for (address, network) in [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
            ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
            ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ] {
            let address: IpAddr = address.parse().expect("an address");
            assert_eq!(ClientNetwork::of(address).to_string(), network, "{address}");
        }
    }
}
