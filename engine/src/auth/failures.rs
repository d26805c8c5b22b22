//! Wrong credentials per address: after so many within a minute no more are looked at. Pure.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Addresses kept at a time.
const ADDRESSES_MAX: usize = 65_536;
/// How long failures count.
const WINDOW: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Entry {
    since: Instant,
    count: u32,
}

/// See the module text.
#[derive(Debug, Default)]
pub struct Failures {
    addresses: HashMap<IpAddr, Entry>,
}

impl Failures {
    /// Too many have failed from there. This machine is exempt: many may speak through it.
    #[must_use]
    pub fn are_too_many(&self, peer: IpAddr, limit: u32, now: Instant) -> bool {
        let entry = self.addresses.get(&unit(peer));
        limit > 0 && entry.is_some_and(|entry| entry.count >= limit && !is_over(entry, now))
    }

    /// Counts one.
    pub fn note(&mut self, peer: IpAddr, now: Instant) {
        let unit = unit(peer);
        if unit.is_loopback() {
            return;
        }
        if self.addresses.len() >= ADDRESSES_MAX && !self.addresses.contains_key(&unit) {
            self.addresses.retain(|_, entry| !is_over(entry, now));
            if self.addresses.len() >= ADDRESSES_MAX {
                // Whoever has that many addresses is not stopped by counting them.
                self.addresses.clear();
            }
        }
        let entry = self.addresses.entry(unit).or_insert(Entry { since: now, count: 0 });
        if is_over(entry, now) {
            *entry = Entry { since: now, count: 0 };
        }
        entry.count = entry.count.saturating_add(1);
    }
}

fn is_over(entry: &Entry, now: Instant) -> bool {
    now.saturating_duration_since(entry.since) >= WINDOW
}

/// An IPv4 address, or the /64 an IPv6 address is in.
fn unit(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_has_so_many_tries() {
        let now = crate::clock::now();
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let mut failures = Failures::default();
        for _ in 0..3 {
            assert!(!failures.are_too_many(ip("2001:db8::1"), 3, now));
            failures.note(ip("2001:db8::1"), now);
        }
        assert!(failures.are_too_many(ip("2001:db8::2"), 3, now), "the same /64");
        assert!(!failures.are_too_many(ip("2001:db8:0:1::1"), 3, now));
        assert!(!failures.are_too_many(ip("2001:db8::1"), 0, now), "no limit");
        assert!(!failures.are_too_many(ip("2001:db8::1"), 3, now + WINDOW));
        for home in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            (0..9).for_each(|_| failures.note(ip(home), now));
            assert!(!failures.are_too_many(ip(home), 3, now));
        }
    }

    #[test]
    fn the_table_is_bounded() {
        let now = crate::clock::now();
        let mut failures = Failures::default();
        for number in 0..ADDRESSES_MAX as u32 + 10 {
            failures.note(IpAddr::V4(std::net::Ipv4Addr::from_bits(number + 0x0100_0000)), now);
        }
        assert!(failures.addresses.len() <= ADDRESSES_MAX);
    }
}
