//! Who may read the API and the metrics.

use std::net::IpAddr;

/// Loopback always; else an entry of `http/api_allow`: `*`, an address, or `address/bits`.
pub(crate) fn permitted(peer: IpAddr, allow: &[String]) -> bool {
    let peer = peer.to_canonical();
    peer.is_loopback() || allow.iter().any(|entry| matches(peer, entry.trim()))
}

fn matches(peer: IpAddr, entry: &str) -> bool {
    if entry == "*" {
        return true;
    }
    let (address, bits) = match entry.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (entry, None),
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        return false;
    };
    let whole: u32 = if address.is_ipv4() { 32 } else { 128 };
    let Ok(bits) = bits.map_or(Ok(whole), str::parse::<u32>) else {
        return false;
    };
    if bits > whole {
        return false;
    }
    // A shift by the whole width would overflow: a prefix of 0 bits matches the whole family.
    let same = |a: u128, b: u128| (a ^ b).checked_shr(whole - bits).unwrap_or(0) == 0;
    match (peer, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same(u32::from(a).into(), u32::from(b).into()),
        (IpAddr::V6(a), IpAddr::V6(b)) => same(a.into(), b.into()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_match_by_prefix_and_loopback_always() {
        let check = |peer: &str, entry: &str| permitted(peer.parse().unwrap(), &[entry.to_owned()]);
        assert!(permitted("127.0.0.1".parse().unwrap(), &[]));
        assert!(permitted("::ffff:127.0.0.1".parse().unwrap(), &[]));
        assert!(!permitted("10.0.0.1".parse().unwrap(), &[]));
        for (peer, entry) in [
            ("10.0.0.1", "*"),
            ("10.0.0.1", "10.0.0.1"),
            ("::ffff:10.0.0.1", "10.0.0.0/8"),
            ("10.9.9.9", "0.0.0.0/0"),
            ("2001:db8::1", "2001:db8::/32"),
            ("2001:db8::1", "::/0"),
        ] {
            assert!(check(peer, entry), "{peer} {entry}");
        }
        for (peer, entry) in [
            ("11.0.0.1", "10.0.0.0/8"),
            ("10.0.0.1", "::/0"),
            ("10.0.0.1", "10.0.0.0/33"),
            ("10.0.0.1", "localhost"),
            ("10.0.0.1", ""),
        ] {
            assert!(!check(peer, entry), "{peer} {entry}");
        }
    }
}
