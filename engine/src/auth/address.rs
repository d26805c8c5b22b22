//! Addresses: lists of the configuration, and which are private. Pure.

use std::net::IpAddr;

use crate::config::units;

/// Some networks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks {
    everywhere: bool,
    list: Vec<(IpAddr, u8)>,
}

impl Networks {
    /// From entries the configuration has checked: `*`, an address, or `address/bits`.
    #[must_use]
    pub fn new(entries: &[String]) -> Self {
        Self {
            everywhere: entries.iter().any(|entry| entry == "*"),
            list: entries.iter().filter_map(|entry| units::network(entry)).collect(),
        }
    }

    /// There are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.everywhere && self.list.is_empty()
    }

    /// The address is in one of them.
    #[must_use]
    pub fn contain(&self, peer: IpAddr) -> bool {
        self.everywhere || self.list.iter().any(|network| units::contains(*network, peer))
    }
}

/// The address is of this machine or of a network that nobody reaches from outside: loopback,
/// RFC 1918, link-local, unique local (RFC 4193).
#[must_use]
pub fn is_private(peer: IpAddr) -> bool {
    match peer.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_is_what_nobody_reaches_from_outside() {
        for (text, private) in [
            ("127.0.0.9", true),
            ("::1", true),
            ("::ffff:10.1.2.3", true),
            ("172.31.0.1", true),
            ("192.168.9.9", true),
            ("169.254.1.1", true),
            ("fd00::1", true),
            ("fe80::1", true),
            ("172.32.0.1", false),
            ("100.64.0.1", false),
            ("203.0.113.7", false),
            ("0.0.0.0", false),
            ("2001:db8::1", false),
            ("::ffff:203.0.113.7", false),
        ] {
            assert_eq!(is_private(text.parse().expect("an address")), private, "{text}");
        }
    }

    #[test]
    fn lists_hold_networks_of_both_families() {
        let lists = |entries: &[&str], peer: &str| {
            let entries: Vec<String> = entries.iter().map(|&entry| entry.to_owned()).collect();
            Networks::new(&entries).contain(peer.parse().expect("an address"))
        };
        assert!(lists(&["*"], "203.0.113.7"));
        assert!(lists(&["10.0.0.0/8", "203.0.113.7"], "::ffff:203.0.113.7"));
        assert!(lists(&["2001:db8::/32"], "2001:db8::1"));
        assert!(!lists(&["2001:db8::/32", "10.0.0.0/8"], "11.0.0.1"));
        assert!(!lists(&[], "127.0.0.1"));
        assert!(Networks::default().is_empty());
    }
}
