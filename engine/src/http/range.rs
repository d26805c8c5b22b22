//! Byte ranges (RFC 9110 14): what a `Range` header asks of a resource of known length. Pure.

use std::ops::Range;

/// Most ranges of one request; more are refused.
pub(crate) const RANGES_MAX: usize = 16;

/// What a request gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ranges {
    /// All of it: the header speaks of another unit.
    Whole,
    /// 206 with these parts: at least one, none empty, none overlapping another, in the order
    /// they were asked for unless some had to be joined.
    Parts(Vec<Range<u64>>),
    /// 416: malformed, too many, or all beyond the end.
    Unsatisfiable,
}

/// Reads the value of a `Range` header against a resource of `length` bytes.
///
/// Ranges that overlap or touch are joined, so that no request makes an answer longer than the
/// resource but for the heads of its parts.
pub(crate) fn parse(value: &str, length: u64) -> Ranges {
    let Some((unit, set)) = value.split_once('=') else { return Ranges::Unsatisfiable };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Ranges::Whole;
    }
    let specs = set.split(',').map(|spec| spec.trim_matches([' ', '\t']));
    let mut parts = Vec::new();
    for (count, spec) in specs.filter(|spec| !spec.is_empty()).enumerate() {
        match spec_of(spec, length) {
            _ if count >= RANGES_MAX => return Ranges::Unsatisfiable,
            Some(Some(part)) => parts.push(part),
            Some(None) => {}
            None => return Ranges::Unsatisfiable,
        }
    }
    if parts.is_empty() { Ranges::Unsatisfiable } else { Ranges::Parts(joined(parts)) }
}

/// `None`: malformed. `Some(None)`: nothing of it is there.
fn spec_of(spec: &str, length: u64) -> Option<Option<Range<u64>>> {
    let (first, last) = spec.split_once('-')?;
    let part = if first.is_empty() {
        length.saturating_sub(number(last)?)..length
    } else {
        let first = number(first)?;
        let last = if last.is_empty() { u64::MAX } else { number(last)? };
        if last < first {
            return None;
        }
        first..last.saturating_add(1).min(length)
    };
    Some(Some(part).filter(|part| part.start < part.end))
}

/// A number of any length; those beyond 64 bits are beyond every file.
fn number(digits: &str) -> Option<u64> {
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().unwrap_or(u64::MAX))
}

fn joined(parts: Vec<Range<u64>>) -> Vec<Range<u64>> {
    let mut sorted = parts.clone();
    sorted.sort_by_key(|part| part.start);
    let mut joined: Vec<Range<u64>> = Vec::with_capacity(sorted.len());
    for part in sorted {
        match joined.last_mut() {
            Some(last) if part.start <= last.end => last.end = last.end.max(part.end),
            _ => joined.push(part),
        }
    }
    if joined.len() == parts.len() { parts } else { joined }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_range() {
        let one = |start, end| Ranges::Parts(vec![Range { start, end }]);
        for (value, expected) in [
            ("bytes=0-0", one(0, 1)),
            ("bytes=10-19", one(10, 20)),
            ("Bytes = 10-19 ", one(10, 20)),
            ("bytes=90-", one(90, 100)),
            ("bytes=90-1000", one(90, 100)),
            ("bytes=90-99999999999999999999999", one(90, 100)),
            ("bytes=-10", one(90, 100)),
            ("bytes=-1000", one(0, 100)),
            ("bytes=,5-6,,", one(5, 7)),
            ("bytes=0-9,100-", one(0, 10)),
            ("lines=1-2", Ranges::Whole),
            ("bytes=-", Ranges::Unsatisfiable),
            ("bytes=-0", Ranges::Unsatisfiable),
            ("bytes=5-2", Ranges::Unsatisfiable),
            ("bytes=100-", Ranges::Unsatisfiable),
            ("bytes=18446744073709551616-", Ranges::Unsatisfiable),
            ("bytes=+1-2", Ranges::Unsatisfiable),
            ("bytes=1-2-3", Ranges::Unsatisfiable),
            ("bytes=0x1-2", Ranges::Unsatisfiable),
            ("bytes=", Ranges::Unsatisfiable),
            ("bytes", Ranges::Unsatisfiable),
            ("bytes=0-1;2-3", Ranges::Unsatisfiable),
        ] {
            assert_eq!(parse(value, 100), expected, "{value}");
        }
        assert_eq!(parse("bytes=0-", 0), Ranges::Unsatisfiable);
        assert_eq!(parse("bytes=-1", 0), Ranges::Unsatisfiable);
    }

    #[test]
    fn several_ranges_stay_in_order_or_are_joined() {
        assert_eq!(parse("bytes=50-59, 0-9", 100), Ranges::Parts(vec![50..60, 0..10]));
        assert_eq!(parse("bytes=0-9,10-19,40-49", 100), Ranges::Parts(vec![0..20, 40..50]));
        let whole = Ranges::Parts(Vec::from([Range { start: 0, end: 100 }]));
        assert_eq!(parse("bytes=0-,0-,0-,-100", 100), whole);
        let sixteen = (0..16).map(|i| format!("{}-{}", i * 4, i * 4)).collect::<Vec<_>>().join(",");
        assert!(
            matches!(parse(&format!("bytes={sixteen}"), 100), Ranges::Parts(p) if p.len() == 16)
        );
        assert_eq!(parse(&format!("bytes={sixteen},90-91"), 100), Ranges::Unsatisfiable);
    }

    proptest! {
        #[test]
        fn parts_are_few_disjoint_and_inside(
            specs in proptest::collection::vec((0u64..300, 0u64..300, 0u8..3), 0..20),
            length in 0u64..256,
        ) {
            let text: Vec<String> = specs.iter().map(|(a, b, kind)| match kind {
                0 => format!("{a}-{b}"),
                1 => format!("{a}-"),
                _ => format!("-{b}"),
            }).collect();
            if let Ranges::Parts(parts) = parse(&format!("bytes={}", text.join(",")), length) {
                prop_assert!(!parts.is_empty() && parts.len() <= RANGES_MAX);
                let mut seen = vec![false; usize::try_from(length).unwrap()];
                for part in parts {
                    prop_assert!(part.start < part.end && part.end <= length);
                    for at in part {
                        let at = usize::try_from(at).unwrap();
                        prop_assert!(!std::mem::replace(&mut seen[at], true), "twice");
                    }
                }
            }
        }

        #[test]
        fn any_text_is_answered(value in "[ -~]{0,80}", length in any::<u64>()) {
            if let Ranges::Parts(parts) = parse(&value, length) {
                prop_assert!(parts.iter().all(|part| part.start < part.end && part.end <= length));
            }
        }
    }
}
