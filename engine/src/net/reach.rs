//! What an address is reached through, and which of them may be dialled: the names in policy.xml are
//! resolved by others, who must not be able to have this server connect to its own neighbourhood.

use std::net::{IpAddr, Ipv6Addr};

/// Where an address lies, the nearest last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Anywhere.
    Public,
    /// A private network (RFC 1918, RFC 4193, RFC 6598).
    Private,
    /// This machine.
    Loopback,
    /// This link (RFC 3927, RFC 4291): what clouds serve their metadata on, those included that
    /// have an address of their own for it.
    LinkLocal,
    /// Nothing that can be connected to: unspecified, multicast, broadcast.
    Nowhere,
}

/// Metadata services outside of link-local addresses: AWS by IPv6, Alibaba Cloud.
const METADATA: [IpAddr; 2] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254)),
    IpAddr::V4(std::net::Ipv4Addr::new(100, 100, 100, 200)),
];

impl Reach {
    /// Of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        let address = address.to_canonical();
        if METADATA.contains(&address) {
            return Self::LinkLocal;
        }
        match address {
            _ if address.is_unspecified() || address.is_multicast() => Self::Nowhere,
            _ if address.is_loopback() => Self::Loopback,
            IpAddr::V4(v4) if v4.is_broadcast() || v4.octets()[0] == 0 => Self::Nowhere,
            IpAddr::V4(v4) if v4.is_link_local() => Self::LinkLocal,
            // RFC 6598: 100.64.0.0/10.
            IpAddr::V4(v4) if v4.is_private() || v4.to_bits() >> 22 == 0x191 => Self::Private,
            IpAddr::V6(v6) if v6.is_unicast_link_local() => Self::LinkLocal,
            IpAddr::V6(v6) if v6.is_unique_local() => Self::Private,
            IpAddr::V4(_) | IpAddr::V6(_) => Self::Public,
        }
    }
}

/// Whether `address`, which `host` of the policy stands for, may be dialled. `local`: the policy
/// says that link-local addresses may, and loopback for any name.
///
/// # Errors
/// Why not: a stable `snake_case` word.
pub fn admit(host: &str, local: bool, address: IpAddr) -> Result<(), &'static str> {
    let literal = host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok();
    match Reach::of(address) {
        Reach::Public | Reach::Private => Ok(()),
        Reach::Loopback if local || literal => Ok(()),
        Reach::LinkLocal if local => Ok(()),
        Reach::Loopback | Reach::LinkLocal => Err("address_refused"),
        Reach::Nowhere => Err("address_unusable"),
    }
}

/// The same for one connection after the other: where who is dialled has sent us may be no nearer
/// than it is itself, which `first` remembers.
///
/// # Errors
/// As of [`admit`].
pub fn admit_next(
    first: &mut Option<Reach>,
    redirected: bool,
    host: &str,
    local: bool,
    address: IpAddr,
) -> Result<(), &'static str> {
    let reach = Reach::of(address);
    if redirected {
        let near_enough = first.is_some_and(|first| reach <= first);
        return if near_enough { Ok(()) } else { Err("address_refused") };
    }
    admit(host, local, address)?;
    *first = Some(reach);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lie_where_they_lie() {
        for (text, reach) in [
            ("192.0.2.1", Reach::Public),
            ("2001:db8::1", Reach::Public),
            ("10.0.0.1", Reach::Private),
            ("172.16.0.1", Reach::Private),
            ("100.64.0.1", Reach::Private),
            ("100.128.0.1", Reach::Public),
            ("fd00::1", Reach::Private),
            ("127.1.2.3", Reach::Loopback),
            ("::1", Reach::Loopback),
            ("::ffff:127.0.0.1", Reach::Loopback),
            ("169.254.169.254", Reach::LinkLocal),
            ("::ffff:169.254.169.254", Reach::LinkLocal),
            ("fe80::1", Reach::LinkLocal),
            ("fd00:ec2::254", Reach::LinkLocal),
            ("100.100.100.200", Reach::LinkLocal),
            ("0.0.0.0", Reach::Nowhere),
            ("0.1.2.3", Reach::Nowhere),
            ("::", Reach::Nowhere),
            ("224.0.0.1", Reach::Nowhere),
            ("255.255.255.255", Reach::Nowhere),
        ] {
            assert_eq!(Reach::of(text.parse().unwrap()), reach, "{text}");
        }
    }

    #[test]
    fn a_name_does_not_lead_into_the_neighbourhood() {
        let dial = |host, local, address: &str| admit(host, local, address.parse().unwrap());
        assert_eq!(dial("name.example", false, "192.0.2.1"), Ok(()));
        assert_eq!(dial("name.example", false, "10.0.0.1"), Ok(()));
        assert_eq!(dial("name.example", false, "127.0.0.1"), Err("address_refused"));
        assert_eq!(dial("localhost", false, "127.0.0.1"), Ok(()));
        assert_eq!(dial("127.0.0.1", false, "127.0.0.1"), Ok(()));
        assert_eq!(dial("169.254.169.254", false, "169.254.169.254"), Err("address_refused"));
        assert_eq!(dial("169.254.169.254", true, "169.254.169.254"), Ok(()));
        assert_eq!(dial("name.example", true, "127.0.0.1"), Ok(()));
        assert_eq!(dial("name.example", true, "0.0.0.0"), Err("address_unusable"));
    }

    #[test]
    fn nobody_sends_us_nearer_than_it_is_itself() {
        let mut first = None;
        let mut next = |redirected, host, address: &str| {
            admit_next(&mut first, redirected, host, false, address.parse().unwrap())
        };
        assert_eq!(next(true, "x", "192.0.2.1"), Err("address_refused"), "from nowhere");
        assert_eq!(next(false, "10.0.0.1", "10.0.0.1"), Ok(()));
        assert_eq!(next(true, "127.0.0.1", "127.0.0.1"), Err("address_refused"));
        assert_eq!(next(true, "y", "10.0.0.2"), Ok(()));
        assert_eq!(next(true, "z", "192.0.2.1"), Ok(()));
        assert_eq!(next(false, "x", "127.0.0.1"), Err("address_refused"), "by another name");
        assert_eq!(next(false, "localhost", "127.0.0.1"), Ok(()));
        assert_eq!(next(true, "w", "127.0.0.2"), Ok(()));
        assert_eq!(next(true, "w", "169.254.169.254"), Err("address_refused"));
    }
}
