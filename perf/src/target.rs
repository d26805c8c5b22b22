//! Where a load goes: scheme, address and path of a URL.

use std::net::{SocketAddr, ToSocketAddrs};

use crate::Outcome;

/// How media is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// RTMP.
    Rtmp,
    /// FLV, a transport stream or MP4 over HTTP, by the extension of the path.
    Http,
    /// The same over WebSocket.
    WebSocket,
    /// FLV after one line, as the floor program sends it.
    Tcp,
    /// RTSP, with media in its connection.
    Rtsp,
    /// RTSP, with media by datagrams (`rtspu://`).
    RtspDatagram,
    /// RTP after one line, as the floor of datagrams sends it (`udp://`).
    Datagram,
}

/// One URL, resolved.
#[derive(Debug, Clone)]
pub struct Target {
    /// How media is asked for.
    pub scheme: Scheme,
    /// Under TLS.
    pub tls: bool,
    /// Host without port.
    pub host: String,
    /// Host with port, as a Host header says it.
    pub authority: String,
    /// Where to connect.
    pub address: SocketAddr,
    /// Path with its slash, `%d` not yet replaced.
    pub path: String,
}

impl Target {
    /// Reads and resolves a URL.
    ///
    /// # Errors
    /// It has no known scheme or its host no address.
    pub fn parse(url: &str) -> Outcome<Self> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| format!("{url} is no URL"))?;
        let (scheme, tls, port) = match scheme {
            "rtmp" => (Scheme::Rtmp, false, 1935),
            "rtmps" => (Scheme::Rtmp, true, 443),
            "http" => (Scheme::Http, false, 80),
            "https" => (Scheme::Http, true, 443),
            "ws" => (Scheme::WebSocket, false, 80),
            "wss" => (Scheme::WebSocket, true, 443),
            "tcp" => (Scheme::Tcp, false, 9000),
            "rtsp" => (Scheme::Rtsp, false, 554),
            "rtsps" => (Scheme::Rtsp, true, 322),
            "rtspu" => (Scheme::RtspDatagram, false, 554),
            "udp" => (Scheme::Datagram, false, 9000),
            other => return Err(format!("scheme {other} is not known").into()),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, text)) if !text.ends_with(']') => (host, text.parse()?),
            _ => (authority, port),
        };
        let host = host.trim_matches(['[', ']']).to_owned();
        let address = (host.as_str(), port).to_socket_addrs()?.next();
        Ok(Self {
            scheme,
            tls,
            address: address.ok_or_else(|| format!("{host} has no address"))?,
            authority: authority.to_owned(),
            path: path.to_owned(),
            host,
        })
    }

    /// The path of one of several streams.
    pub fn path_of(&self, stream: usize) -> String {
        self.path.replace("%d", &stream.to_string())
    }

    /// The URL as RTSP wants it.
    pub fn rtsp_url(&self, stream: usize) -> String {
        let scheme = if self.tls { "rtsps" } else { "rtsp" };
        format!("{scheme}://{}{}", self.authority, self.path_of(stream))
    }

    /// Media comes by datagrams.
    pub fn is_datagrams(&self) -> bool {
        matches!(self.scheme, Scheme::RtspDatagram | Scheme::Datagram)
    }

    /// App and stream name of an RTMP path.
    pub fn rtmp_names(&self, stream: usize) -> (String, String) {
        let path = self.path_of(stream);
        let path = path.trim_start_matches('/');
        let (app, name) = path.split_once('/').unwrap_or((path, ""));
        (app.to_owned(), name.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let target = Target::parse("rtmp://127.0.0.1:21935/live/s%d?merge=0").unwrap();
        assert_eq!((target.scheme, target.tls), (Scheme::Rtmp, false));
        assert_eq!(target.address, "127.0.0.1:21935".parse().unwrap());
        assert_eq!(target.rtmp_names(7), ("live".to_owned(), "s7?merge=0".to_owned()));
        let target = Target::parse("https://[::1]/live/a.flv").unwrap();
        assert_eq!(target.address, "[::1]:443".parse().unwrap());
        assert!(target.tls && target.path == "/live/a.flv");
        let target = Target::parse("rtspu://127.0.0.1/live/s%d").unwrap();
        assert!(target.is_datagrams());
        assert_eq!(target.rtsp_url(2), "rtsp://127.0.0.1/live/s2");
        assert!(Target::parse("gopher://127.0.0.1/").is_err());
    }
}
