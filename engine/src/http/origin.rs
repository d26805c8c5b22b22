//! Whether a request comes from this machine, and from nobody who speaks through it: what is open
//! without credentials there. Pure.

use std::net::IpAddr;

use hyper::header::{self, HeaderMap};

use crate::http::urls;

/// Headers that proxies set: with one of them the peer is not who asks.
const FORWARDED: [&str; 5] =
    ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"];

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Stranger {
    /// Another machine.
    #[error("only this machine may do that without a credential")]
    Remote,
    /// A proxy on this machine speaks for somebody.
    #[error("only this machine may do that without a credential, and not through a proxy")]
    Proxied,
    /// A page of another site, in a browser on this machine.
    #[error("only this machine may do that without a credential, and no page of another site")]
    CrossSite,
}

/// Checks the peer, and what the request says of where it comes from.
pub(crate) fn check(
    peer: IpAddr,
    authority: Option<&str>,
    headers: &HeaderMap,
) -> Result<(), Stranger> {
    if !peer.to_canonical().is_loopback() {
        return Err(Stranger::Remote);
    }
    if FORWARDED.iter().any(|name| headers.contains_key(*name)) {
        return Err(Stranger::Proxied);
    }
    let text =
        |name: header::HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or(""));
    // A name that only resolves to this machine may belong to a page that rebinds it.
    let host = authority.or_else(|| text(header::HOST)).unwrap_or_default();
    let is_local = urls::parse_host(host).is_some_and(|(host, _)| {
        host.eq_ignore_ascii_case("localhost")
            || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
    });
    let foreign = is_of_other_site_than(host, headers);
    if is_local && !foreign { Ok(()) } else { Err(Stranger::CrossSite) }
}

/// A page of another site makes a browser send it.
pub(super) fn is_of_other_site(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    is_of_other_site_than(host.unwrap_or_default(), headers)
}

fn is_of_other_site_than(host: &str, headers: &HeaderMap) -> bool {
    let origin = headers.get(header::ORIGIN).map(|value| value.to_str().unwrap_or(""));
    let same_origin = origin.is_none_or(|origin| {
        origin.split_once("://").is_some_and(|(_, from)| from.eq_ignore_ascii_case(host))
    });
    let site = headers.get("sec-fetch-site").map(|value| value.to_str().unwrap_or(""));
    let same_site = site.is_none_or(|site| matches!(site, "same-origin" | "none"));
    !(same_origin && same_site)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{HeaderName, HeaderValue};

    #[test]
    fn only_this_machine_and_its_own_pages_may() {
        let check = |peer: &str, pairs: &[(&str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                let name = HeaderName::try_from(*name).unwrap();
                headers.insert(name, HeaderValue::from_str(value).unwrap());
            }
            check(peer.parse().unwrap(), None, &headers)
        };
        let host = ("host", "localhost:8080");
        assert_eq!(check("127.0.0.1", &[host]), Ok(()));
        assert_eq!(check("::1", &[("host", "[::1]:8080")]), Ok(()));
        assert_eq!(check("127.0.0.1", &[host, ("origin", "http://localhost:8080")]), Ok(()));
        assert_eq!(check("10.0.0.1", &[host]), Err(Stranger::Remote));
        assert_eq!(check("127.0.0.1", &[host, ("x-forwarded-for", "x")]), Err(Stranger::Proxied));
        for pairs in [
            &[("host", "evil.example")][..],
            &[("host", "127.0.0.1.evil.example")],
            &[host, ("origin", "http://evil.example")],
            &[host, ("origin", "null")],
            &[host, ("origin", "http://localhost:9000")],
            &[host, ("sec-fetch-site", "cross-site")],
            &[],
        ] {
            assert_eq!(check("127.0.0.1", pairs), Err(Stranger::CrossSite), "{pairs:?}");
        }
    }
}
