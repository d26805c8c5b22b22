//! Parsers of single values: numbers, durations, addresses, lists, the merge window, the cores.
//!
//! Each returns `None` for what it does not accept; the options table says what it accepts.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::model::{Cores, HostPort, MergeWindow};

/// Most shards and CPU numbers.
pub const CORES_MAX: usize = 256;
/// Longest merge window in milliseconds.
pub const WINDOW_MS_MAX: u32 = 1000;
/// The default merge window: adaptive up to this many milliseconds.
pub const WINDOW_MS: u32 = 50;

/// `true` or `false`, also `1` and `0`.
pub fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// A whole number of digits only, within bounds.
pub fn integer(text: &str, min: u64, max: u64) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| digits)?;
    (min..=max).contains(&number).then_some(number)
}

/// A decimal number of `unit_ms` milliseconds, within bounds counted in that unit.
pub fn duration(text: &str, unit_ms: u32, min: u32, max: u32) -> Option<Duration> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let number: f64 = text.parse().ok().filter(|_| plain)?;
    let inside = number >= f64::from(min) && number <= f64::from(max);
    inside.then(|| Duration::from_secs_f64(number * f64::from(unit_ms) / 1000.0))
}

/// An address literal, IPv6 with or without brackets; empty means all addresses.
pub fn ip(text: &str) -> Option<Option<IpAddr>> {
    if text.is_empty() {
        return Some(None);
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().map(Some)
}

/// The first and the last of a range of IPv4 multicast groups.
pub fn groups(text: &str) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let (first, last) = text.split_once('-')?;
    let group = |text: &str| text.trim().parse().ok().filter(Ipv4Addr::is_multicast);
    Some((group(first)?, group(last)?))
}

/// A comma list, trimmed, without empty entries; `none` is the empty list.
pub fn list(text: &str) -> Vec<String> {
    if text == "none" {
        return Vec::new();
    }
    let entries = text.split(',').map(str::trim);
    entries.filter(|entry| !entry.is_empty()).map(str::to_owned).collect()
}

/// A DNS name or address literal, without brackets.
pub fn host(text: &str) -> Option<String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_string());
    }
    let label = |label: &str| {
        let edge = label.starts_with('-') || label.ends_with('-');
        let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !label.is_empty() && label.len() <= 63 && !edge && label.bytes().all(known)
    };
    let name = text.len() <= 253 && text.split('.').all(label);
    name.then(|| text.to_ascii_lowercase())
}

/// `host`, `host:port`, `[v6]:port` or a bare IPv6 address.
pub fn host_port(text: &str) -> Option<HostPort> {
    let port = |text: &str| integer(text, 1, 65_535).and_then(|port| u16::try_from(port).ok());
    if let Some(rest) = text.strip_prefix('[') {
        let (inner, tail) = rest.split_once(']')?;
        let host = inner.parse::<std::net::Ipv6Addr>().ok()?.to_string();
        let port = match tail.strip_prefix(':') {
            Some(digits) => Some(port(digits)?),
            None if tail.is_empty() => None,
            None => return None,
        };
        return Some(HostPort { host, port });
    }
    match text.split_once(':') {
        Some((name, digits)) if !digits.contains(':') => {
            Some(HostPort { host: host(name)?, port: Some(port(digits)?) })
        }
        _ => Some(HostPort { host: host(text)?, port: None }),
    }
}

/// `50` adaptive ceiling, `fixed:20`, and the reference's `true` and `false` for the default.
pub fn window(text: &str) -> Option<MergeWindow> {
    let limited = |text| duration(text, 1, 0, WINDOW_MS_MAX);
    match text.strip_prefix("fixed:") {
        Some(fixed) => limited(fixed).map(MergeWindow::Fixed),
        None if boolean(text).is_some() && text.len() > 1 => {
            let ceiling = Duration::from_millis(WINDOW_MS.into());
            Some(MergeWindow::Adaptive { ceiling })
        }
        None => limited(text).map(|ceiling| MergeWindow::Adaptive { ceiling }),
    }
}

/// `auto`, a count `4`, or a list of CPU numbers `0,2,4-7`; `[3]` is the list of one.
pub fn cores(text: &str) -> Option<Cores> {
    if text == "auto" {
        return Some(Cores::Auto);
    }
    let max = CORES_MAX as u64;
    let number = |text: &str, min| integer(text.trim(), min, max).map(|n| n as usize);
    if let Some(count) = number(text, 1) {
        return Some(Cores::Count(count));
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if bare.len() == text.len() && !text.contains([',', '-']) {
        return None;
    }
    let mut cpus = Vec::new();
    for entry in bare.split(',') {
        let (first, last) = entry.split_once('-').unwrap_or((entry, entry));
        let range = number(first, 0)?..=number(last, 0)?;
        if range.is_empty() {
            return None;
        }
        for cpu in range {
            if cpus.contains(&cpu) {
                return None;
            }
            cpus.push(cpu);
        }
    }
    Some(Cores::List(cpus))
}

/// Whether a text fits a pattern in which `*` stands for any text, also none. The whole text.
pub fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return text.ends_with(part);
        }
        // The first place is the best: what is left for the later parts is longest.
        match text.split_once(part) {
            Some((_, after)) => text = after,
            None => return false,
        }
    }
    true
}

/// An address with an optional prefix length, as `api_allow` lists them.
pub fn network(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address = ip(address)??;
    let bits: u8 = if address.is_ipv4() { 32 } else { 128 };
    let length = match length {
        Some(length) => u8::try_from(integer(length, 0, bits.into())?).ok()?,
        None => bits,
    };
    Some((address, length))
}

/// Whether an address lies in a network; an IPv4 peer on an IPv6 socket counts as IPv4.
pub fn contains(network: (IpAddr, u8), peer: IpAddr) -> bool {
    match (network.0, peer.to_canonical()) {
        (IpAddr::V4(base), IpAddr::V4(peer)) => {
            let differing = base.to_bits() ^ peer.to_bits();
            differing.leading_zeros() >= u32::from(network.1)
        }
        (IpAddr::V6(base), IpAddr::V6(peer)) => {
            let differing = base.to_bits() ^ peer.to_bits();
            differing.leading_zeros() >= u32::from(network.1)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_have_three_spellings() {
        let adaptive = |ms| Some(MergeWindow::Adaptive { ceiling: Duration::from_millis(ms) });
        for (text, expected) in [
            ("50", adaptive(50)),
            ("0", adaptive(0)),
            ("1", adaptive(1)),
            ("true", adaptive(50)),
            ("false", adaptive(50)),
            ("fixed:20", Some(MergeWindow::Fixed(Duration::from_millis(20)))),
            ("fixed:", None),
            ("fixed:true", None),
            ("1001", None),
            ("-1", None),
            ("fast", None),
        ] {
            assert_eq!(window(text), expected, "{text}");
        }
    }

    #[test]
    fn a_bare_number_of_cores_is_a_count_and_brackets_or_commas_make_a_list() {
        for (text, expected) in [
            ("auto", Some(Cores::Auto)),
            ("2", Some(Cores::Count(2))),
            ("0,2,3", Some(Cores::List(vec![0, 2, 3]))),
            ("[2]", Some(Cores::List(vec![2]))),
            ("0-2, 7", Some(Cores::List(vec![0, 1, 2, 7]))),
            ("0", None),
            ("257", None),
            ("1,1", None),
            ("3-1", None),
            ("0,", None),
            ("all", None),
        ] {
            assert_eq!(cores(text), expected, "{text}");
        }
    }

    #[test]
    fn ranges_of_multicast_groups() {
        let range = Some(([239, 255, 0, 1].into(), [239, 255, 1, 0].into()));
        assert_eq!(groups("239.255.0.1 - 239.255.1.0"), range);
        for text in ["239.255.0.1", "10.0.0.1-10.0.0.2", "239.255.0.1-10.0.0.2", "ff02::1-ff02::2"]
        {
            assert_eq!(groups(text), None, "{text}");
        }
    }

    #[test]
    fn hosts_with_ports() {
        let some = |host: &str, port| Some(HostPort { host: host.to_owned(), port });
        for (text, expected) in [
            ("Example.ORG:1935", some("example.org", Some(1935))),
            ("10.0.0.1", some("10.0.0.1", None)),
            ("[2001:db8::1]:80", some("2001:db8::1", Some(80))),
            ("2001:db8::1", some("2001:db8::1", None)),
            ("[2001:db8::1]", some("2001:db8::1", None)),
            ("host:0", None),
            ("host:port", None),
            ("[x]:1", None),
            ("[::1]1", None),
            ("a b", None),
            ("-a", None),
            ("", None),
        ] {
            assert_eq!(host_port(text), expected, "{text}");
        }
    }

    #[test]
    fn durations_may_be_fractions() {
        assert_eq!(duration("0.25", 1000, 0, 10), Some(Duration::from_millis(250)));
        assert_eq!(duration("3", 60_000, 1, 10), Some(Duration::from_secs(180)));
        for text in ["", ".", "1e3", "inf", "-1", "10.1", "1.2.3"] {
            assert_eq!(duration(text, 1000, 0, 10), None, "{text}");
        }
    }

    #[test]
    fn patterns_match_whole_texts() {
        for (pattern, text, expected) in [
            ("live/x", "live/x", true),
            ("live/x", "live/xy", false),
            ("live/*", "live/a/b", true),
            ("live/*", "live", false),
            ("*/cam*", "app/camera", true),
            ("live/*a*b", "live/xaybab", true),
            ("live/*a*b", "live/xb", false),
            ("live/a*a", "live/a", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn networks_contain_their_addresses() {
        let inside = |text: &str, peer: &str| {
            contains(network(text).expect("network"), peer.parse().expect("address"))
        };
        assert!(inside("10.0.0.0/8", "10.200.3.4"));
        assert!(inside("10.0.0.0/8", "::ffff:10.1.1.1"));
        assert!(!inside("10.0.0.0/8", "11.0.0.0"));
        assert!(inside("0.0.0.0/0", "8.8.8.8"));
        assert!(inside("fd00::/8", "fd12::1"));
        assert!(!inside("192.0.2.1", "192.0.2.2"));
        assert!(network("10.0.0.0/33").is_none() && network("x").is_none());
    }
}
