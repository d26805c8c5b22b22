//! The `Transport` header (RFC 2326 12.39): alternatives of a client, the choice of a server.

use std::net::IpAddr;

/// Alternatives of one request that are looked at.
pub const ALTERNATIVES_MAX: usize = 16;

/// How one track travels. Ports and channels are pairs: RTP, RTCP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// Within the connection; `None`: the server chooses the channels.
    Interleaved(Option<(u8, u8)>),
    /// By datagrams.
    Datagram {
        /// Ports of the client.
        client: (u16, u16),
        /// Ports of the server, in answers.
        server: Option<(u16, u16)>,
    },
    /// By multicast.
    Multicast {
        /// Group and ports, in answers.
        group: Option<(IpAddr, (u16, u16), u8)>,
    },
}

/// One transport specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transport {
    /// The protocol was written `RTP/AVP/UDP`.
    pub names_udp: bool,
    /// How it travels.
    pub delivery: Delivery,
    /// Where the media are to go, or come from, if other than the peer of the connection.
    pub destination: Option<Box<str>>,
    /// Address the server sends from, in answers.
    pub source: Option<Box<str>>,
    /// The client records (true) or plays (false), if it says so.
    pub record: Option<bool>,
}

impl Transport {
    /// The specifications of one header that can be used at all, in their order. Others are left out:
    /// a client that offers several wants the first that works.
    pub fn parse_all(header: &str) -> Vec<Self> {
        split_quoted(header, ',').take(ALTERNATIVES_MAX).filter_map(Self::parse).collect()
    }

    fn parse(specification: &str) -> Option<Self> {
        let mut parts = split_quoted(specification, ';').map(str::trim);
        let protocol = parts.next()?.to_ascii_uppercase();
        let tcp = match protocol.as_str() {
            "RTP/AVP" | "RTP/AVP/UDP" => false,
            "RTP/AVP/TCP" => true,
            _ => return None,
        };
        let mut seen = Parameters::default();
        for part in parts {
            seen.take(part)?;
        }
        let delivery = match (tcp, seen.multicast) {
            (true, false) => Delivery::Interleaved(seen.interleaved),
            (true, true) => return None,
            (false, false) => {
                Delivery::Datagram { client: seen.client_port?, server: seen.server_port }
            }
            (false, true) => Delivery::Multicast { group: seen.group() },
        };
        Some(Self {
            names_udp: protocol.ends_with("/UDP"),
            delivery,
            destination: seen.destination,
            source: seen.source,
            record: seen.record,
        })
    }

    /// As a header value.
    pub fn to_header(&self) -> String {
        let mut text = match self.delivery {
            Delivery::Interleaved(_) => "RTP/AVP/TCP".to_owned(),
            _ if self.names_udp => "RTP/AVP/UDP".to_owned(),
            _ => "RTP/AVP".to_owned(),
        };
        match &self.delivery {
            Delivery::Interleaved(None) => text += ";unicast",
            Delivery::Interleaved(Some((rtp, rtcp))) => {
                text += &format!(";unicast;interleaved={rtp}-{rtcp}");
            }
            Delivery::Datagram { client, server } => {
                text += &format!(";unicast;client_port={}-{}", client.0, client.1);
                if let Some((rtp, rtcp)) = server {
                    text += &format!(";server_port={rtp}-{rtcp}");
                }
            }
            Delivery::Multicast { group: None } => text += ";multicast",
            Delivery::Multicast { group: Some((address, (rtp, rtcp), ttl)) } => {
                text += &format!(";multicast;destination={address};port={rtp}-{rtcp};ttl={ttl}");
            }
        }
        match self.record {
            Some(true) => text += ";mode=record",
            Some(false) => text += ";mode=play",
            None => {}
        }
        text
    }
}

/// Parameters of one specification.
#[derive(Default)]
struct Parameters {
    multicast: bool,
    interleaved: Option<(u8, u8)>,
    client_port: Option<(u16, u16)>,
    server_port: Option<(u16, u16)>,
    port: Option<(u16, u16)>,
    ttl: Option<u8>,
    destination: Option<Box<str>>,
    source: Option<Box<str>>,
    record: Option<bool>,
}

impl Parameters {
    /// `None`: the specification cannot be used.
    fn take(&mut self, part: &str) -> Option<()> {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let value = value.trim().trim_matches('"');
        match name.trim().to_ascii_lowercase().as_str() {
            "multicast" => self.multicast = true,
            "interleaved" => self.interleaved = Some(pair::<u8>(value)?),
            "client_port" => self.client_port = Some(port_pair(value)?),
            // Answers of servers that leave the port open are not answers.
            "server_port" => self.server_port = Some(port_pair(value)?),
            "port" => self.port = Some(port_pair(value)?),
            "ttl" => self.ttl = Some(value.parse().ok()?),
            "destination" if !value.is_empty() => self.destination = Some(value.into()),
            "source" if !value.is_empty() => self.source = Some(value.into()),
            "mode" => {
                let value = value.to_ascii_lowercase();
                // "receive" is what drafts called it.
                let record = value.contains("record") || value.contains("receive");
                self.record = Some(record);
            }
            // unicast, ssrc, layers, append and what others add.
            _ => {}
        }
        Some(())
    }

    fn group(&self) -> Option<(IpAddr, (u16, u16), u8)> {
        let address = self.destination.as_ref()?.parse().ok()?;
        Some((address, self.port?, self.ttl.unwrap_or(1)))
    }
}

/// `a-b`, or `a` for `a` and the next; the two differ.
fn pair<T: TryFrom<u32>>(text: &str) -> Option<(T, T)> {
    let number = |text: &str| -> Option<u32> {
        let digits = text.trim();
        if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
    };
    let (first, second) = match text.split_once('-') {
        Some((first, second)) => (number(first)?, number(second)?),
        None => (number(text)?, number(text)?.checked_add(1)?),
    };
    if first == second {
        return None;
    }
    Some((T::try_from(first).ok()?, T::try_from(second).ok()?))
}

fn port_pair(text: &str) -> Option<(u16, u16)> {
    pair::<u16>(text).filter(|(rtp, rtcp)| *rtp != 0 && *rtcp != 0)
}

/// Parts between separators outside quotes.
pub(super) fn split_quoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |character| {
        quoted ^= character == '"';
        character == separator && !quoted
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(header: &str) -> Transport {
        let mut all = Transport::parse_all(header);
        assert_eq!(all.len(), 1, "{header}");
        all.remove(0)
    }

    #[test]
    fn dialects() {
        let tcp = |pair| Delivery::Interleaved(pair);
        let udp = |client| Delivery::Datagram { client, server: None };
        for (header, delivery, record) in [
            ("RTP/AVP/TCP;unicast;interleaved=0-1", tcp(Some((0, 1))), None),
            ("RTP/AVP/TCP;unicast;interleaved=2-3;mode=record", tcp(Some((2, 3))), Some(true)),
            ("RTP/AVP/TCP;interleaved=4", tcp(Some((4, 5))), None),
            ("RTP/AVP/TCP;unicast;mode=\"PLAY\"", tcp(None), Some(false)),
            (
                "RTP/AVP/UDP;unicast;client_port=9000-9001;mode=RECORD",
                udp((9000, 9001)),
                Some(true),
            ),
            ("RTP/AVP;unicast;client_port=5000", udp((5000, 5001)), None),
            ("rtp/avp;Unicast; Client_Port = 5000-5001 ", udp((5000, 5001)), None),
            ("RTP/AVP;multicast", Delivery::Multicast { group: None }, None),
            (
                "RTP/AVP;unicast;client_port=1-2;server_port=3-4;ssrc=AB;source=10.0.0.1",
                Delivery::Datagram { client: (1, 2), server: Some((3, 4)) },
                None,
            ),
            ("RTP/AVP/TCP;interleaved=0-1;mode=\"PLAY,RECORD\"", tcp(Some((0, 1))), Some(true)),
        ] {
            let transport = one(header);
            assert_eq!((transport.delivery, transport.record), (delivery, record), "{header}");
        }
    }

    #[test]
    fn alternatives_that_cannot_be_used_are_left_out() {
        for header in [
            "",
            "RTP/AVP;unicast",
            "RTP/AVP;unicast;client_port=0-0",
            "RTP/AVP;unicast;client_port=0-1",
            "RTP/AVP;unicast;client_port=65535-65536",
            "RTP/AVP;unicast;client_port=65535",
            "RTP/AVP;unicast;client_port=+1-2",
            "RTP/AVP/TCP;interleaved=255-256",
            "RTP/AVP/TCP;interleaved=255",
            "RTP/AVP/TCP;interleaved=1-1",
            "RTP/AVP/TCP;interleaved=-",
            "RTP/AVP/TCP;multicast",
            "RTP/SAVP;unicast;client_port=1-2",
            "RAW/RAW/UDP;unicast",
            "RTP/AVP;multicast;ttl=256",
        ] {
            assert_eq!(Transport::parse_all(header), [], "{header}");
        }
        let several =
            "RTP/SAVP;a=\",\",RTP/AVP;unicast;client_port=1-2,RTP/AVP/TCP;interleaved=0-1";
        assert_eq!(Transport::parse_all(several).len(), 2);
        let many = "RTP/AVP/TCP,".repeat(100);
        assert_eq!(Transport::parse_all(&many).len(), ALTERNATIVES_MAX);
    }

    #[test]
    fn answers_are_read_back() {
        for header in [
            "RTP/AVP/TCP;unicast;interleaved=6-7;mode=record",
            "RTP/AVP/UDP;unicast;client_port=1-2;server_port=30000-30001",
            "RTP/AVP;multicast;destination=239.1.2.3;port=5000-5001;ttl=16",
        ] {
            assert_eq!(one(header).to_header(), header);
        }
    }
}
