//! Where a request comes from: this machine, and nobody who speaks through it, may do without
//! credentials what others may not; pages of other sites may not have a browser change anything.
//! Pure.

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
    // A name that only resolves to this machine may belong to a page that rebinds it.
    let host = host_of(authority, headers);
    let is_local = urls::parse_host(host).is_some_and(|(host, _)| {
        host.eq_ignore_ascii_case("localhost")
            || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
    });
    let foreign = is_of_other_site(authority, headers);
    if is_local && !foreign { Ok(()) } else { Err(Stranger::CrossSite) }
}

/// Whom the request is for: HTTP/2 says it in `:authority`, others in `Host`.
fn host_of<'a>(authority: Option<&'a str>, headers: &'a HeaderMap) -> &'a str {
    let host = || headers.get(header::HOST).and_then(|value| value.to_str().ok());
    authority.or_else(host).unwrap_or_default()
}

/// A page of another site makes a browser send it. Browsers that say so themselves know best
/// (Fetch Metadata); of others `Origin` is compared with whom the request is for.
pub(super) fn is_of_other_site(authority: Option<&str>, headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return !matches!(site.as_bytes(), b"same-origin" | b"none");
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let from = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    let host = host_of(authority, headers);
    !from.is_some_and(|(_, from)| from.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{HeaderName, HeaderValue};

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            (HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap())
        });
        pairs.collect()
    }

    #[test]
    fn pages_of_other_sites_are_told_from_our_own() {
        let foreign = |authority, pairs: &[_]| is_of_other_site(authority, &headers(pairs));
        let host = ("host", "media.example:8080");
        let same = ("origin", "http://media.example:8080");
        let other = ("origin", "http://evil.example");
        assert!(!foreign(None, &[host]), "no browser");
        assert!(!foreign(None, &[host, same]));
        assert!(foreign(None, &[host, other]));
        // HTTP/2 has no `Host`.
        assert!(!foreign(Some("media.example:8080"), &[same]));
        assert!(foreign(Some("media.example:8080"), &[other]));
        assert!(foreign(Some("media.example:8080"), &[("host", "evil.example"), other]));
        // What the browser says itself decides: a proxy may have changed whom it is for.
        let inner = ("host", "10.0.0.1:8080");
        assert!(!foreign(None, &[inner, same, ("sec-fetch-site", "same-origin")]));
        for site in ["cross-site", "same-site", "?"] {
            assert!(foreign(None, &[host, same, ("sec-fetch-site", site)]), "{site}");
        }
    }

    #[test]
    fn only_this_machine_and_its_own_pages_may() {
        let check = |peer: &str, pairs: &[_]| check(peer.parse().unwrap(), None, &headers(pairs));
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
