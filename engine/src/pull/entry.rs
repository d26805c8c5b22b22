//! One `<pull>` of `policy.xml`: which source becomes which stream, when and how.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use protocols::text::{split_authority, split_url, split_user, without_user};

use crate::config::Line;

/// Longest URL.
const URL_BYTES_MAX: usize = 1024;
/// Redirects followed before a source counts as failed.
const REDIRECTS_MAX: u8 = 3;

/// See the module text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where the media come from.
    pub source: Source,
    /// Vhost of the stream it becomes; empty for the default one.
    pub vhost: String,
    /// App of the stream it becomes.
    pub app: String,
    /// Name of the stream it becomes.
    pub name: String,
    /// From the start and for ever; otherwise while somebody watches.
    pub always: bool,
    /// How RTP travels.
    pub transport: Transport,
    /// How long it stays after the last viewer.
    pub linger: Duration,
    /// PEM file of the authorities of a source with TLS, instead of those of the platform.
    pub ca: Option<PathBuf>,
    /// Link-local addresses may be dialled, and loopback by any name.
    pub local: bool,
    /// A file ends with its end; otherwise it begins again.
    pub once: bool,
    /// Line of the file.
    pub line: Line,
}

impl Entry {
    /// The source is within TLS.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        matches!(&self.source, Source::Remote(remote) if remote.tls)
    }

    /// The source, without credentials: for logs and the API.
    #[must_use]
    pub fn shown(&self) -> Arc<str> {
        match &self.source {
            Source::Remote(remote) => remote.to_string().into(),
            Source::File(name) => format!("file:{name}").into(),
        }
    }
}

/// Where media come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Another server or a camera.
    Remote(Remote),
    /// A file beneath the folder of files on demand.
    File(String),
}

/// How RTP travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Within the connection; by datagrams if the source refuses that.
    Auto,
    /// Within the connection.
    Tcp,
    /// By datagrams; within the connection if none arrives.
    Udp,
}

/// What a source speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// RTSP.
    Rtsp,
    /// RTMP.
    Rtmp,
    /// FLV as an endless HTTP body.
    HttpFlv,
}

/// Another server.
#[derive(Clone, PartialEq, Eq)]
pub struct Remote {
    /// What it speaks.
    pub scheme: Scheme,
    /// Within TLS.
    pub tls: bool,
    /// Its URL, credentials included: not to be shown.
    pub url: String,
    /// Host to dial.
    pub host: String,
    /// Port to dial.
    pub port: u16,
    /// How often it may still send us elsewhere.
    pub redirects: u8,
}

/// Why a URL cannot be pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Not one of the known forms.
    #[error(
        "rtsp, rtmp or http, or one of these with s, :// host and path, or file: with a name \
         beneath the folder of files on demand"
    )]
    Form,
    /// Only FLV is pulled by HTTP.
    #[error("an http:// URL whose path ends with .flv: other containers are not pulled by HTTP")]
    Container,
    /// Only some kinds of file are read.
    #[error("a file with the ending .mp4, .m4v, .mov, .flv or .ts")]
    FileKind,
}

impl Source {
    /// Reads a URL.
    ///
    /// # Errors
    /// What it should be.
    pub fn parse(url: &str) -> Result<Self, EntryError> {
        if let Some(name) = url.strip_prefix("file:") {
            let plain = !name.is_empty()
                && name.len() <= URL_BYTES_MAX
                && !name.chars().any(char::is_control)
                && name.split('/').all(|part| !part.is_empty() && !part.starts_with('.'));
            if !plain {
                return Err(EntryError::Form);
            }
            return match super::file::Kind::of(name) {
                Some(_) => Ok(Self::File(name.to_owned())),
                None => Err(EntryError::FileKind),
            };
        }
        Remote::parse(url, REDIRECTS_MAX).map(Self::Remote)
    }
}

impl Remote {
    fn parse(url: &str, redirects: u8) -> Result<Self, EntryError> {
        let (scheme, _) = url.split_once("://").ok_or(EntryError::Form)?;
        let (scheme, tls, default_port) = match scheme.to_ascii_lowercase().as_str() {
            "rtsp" => (Scheme::Rtsp, false, 554),
            "rtsps" => (Scheme::Rtsp, true, 322),
            "rtmp" => (Scheme::Rtmp, false, 1935),
            "rtmps" => (Scheme::Rtmp, true, 443),
            "http" => (Scheme::HttpFlv, false, 80),
            "https" => (Scheme::HttpFlv, true, 443),
            _ => return Err(EntryError::Form),
        };
        let unfit = |c: char| c.is_control() || c.is_whitespace() || !c.is_ascii();
        let (authority, path, _) = split_url(url);
        let (host, port) = split_authority(authority);
        let wants_path = scheme != Scheme::Rtsp;
        if url.len() > URL_BYTES_MAX
            || url.chars().any(unfit)
            || host.is_empty()
            || port == Some(0)
            || (wants_path && path.trim_matches('/').is_empty())
            || (scheme == Scheme::Rtmp && !path.trim_matches('/').contains('/'))
        {
            return Err(EntryError::Form);
        }
        if scheme == Scheme::HttpFlv && !path.to_ascii_lowercase().ends_with(".flv") {
            return Err(EntryError::Container);
        }
        let port = port.unwrap_or(default_port);
        let (url, host) = (url.to_owned(), host.to_owned());
        Ok(Self { scheme, tls, url, host, port, redirects })
    }

    /// Where the source sends us; credentials go along only to the same host, and not out of TLS.
    /// `None`: it is no such URL, or one too many.
    #[must_use]
    pub fn redirected(&self, url: &str) -> Option<Self> {
        let mut there = Self::parse(url, self.redirects.checked_sub(1)?).ok()?;
        let same = there.scheme == self.scheme && there.host.eq_ignore_ascii_case(&self.host);
        if same
            && there.tls >= self.tls
            && let (Some(user), None) = (user(&self.url), user(&there.url))
            && let Some((scheme, rest)) = there.url.split_once("://")
        {
            there.url = format!("{scheme}://{user}@{rest}");
        }
        (there.scheme == self.scheme).then_some(there)
    }

    /// User and password of the URL, as written.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        user(&self.url)
    }
}

fn user(url: &str) -> Option<&str> {
    split_user(split_url(url).0).0
}

/// A URL without what may be secret: user, password and query.
#[must_use]
pub fn masked(url: &str) -> String {
    let (before, query) = url.split_once('?').map_or((url, ""), |(before, _)| (before, "?***"));
    match without_user(before) {
        (plain, Some(_)) => format!("{}{query}", plain.replacen("://", "://***@", 1)),
        (plain, None) => plain + query,
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&masked(&self.url))
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Remote({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(url: &str) -> Remote {
        match Source::parse(url) {
            Ok(Source::Remote(remote)) => remote,
            other => panic!("{url}: {other:?}"),
        }
    }

    #[test]
    fn sources_are_told_by_their_scheme() {
        let camera = remote("rtsp://u:p@camera/path?x=1");
        assert_eq!(
            (camera.scheme, camera.host.as_str(), camera.port),
            (Scheme::Rtsp, "camera", 554)
        );
        assert_eq!(camera.user(), Some("u:p"));
        assert_eq!(remote("RTMP://h:1936/live/x").port, 1936);
        assert_eq!((remote("rtsps://h/x").port, remote("https://h/x.flv").tls), (322, true));
        assert_eq!(remote("http://[::1]:8080/live/x.flv?t=1").host, "::1");
        assert_eq!(Source::parse("file:a/b.mp4"), Ok(Source::File("a/b.mp4".to_owned())));
        for (url, error) in [
            ("", EntryError::Form),
            ("rtmp://h/live", EntryError::Form),
            ("rtmp:///live/x", EntryError::Form),
            ("rtsp://h:0/x", EntryError::Form),
            ("rtsp://h/a b", EntryError::Form),
            ("srt://h/x", EntryError::Form),
            ("http://h/live/x.m3u8", EntryError::Container),
            ("file:../x.mp4", EntryError::Form),
            ("file:/etc/x.mp4", EntryError::Form),
            ("file:x.mkv", EntryError::FileKind),
        ] {
            assert_eq!(Source::parse(url), Err(error), "{url}");
        }
    }

    #[test]
    fn secrets_are_never_shown() {
        let camera = remote("rtsp://admin:s3cr3t@camera:554/a?token=s3cr3t");
        assert_eq!(camera.to_string(), "rtsp://***@camera:554/a?***");
        assert!(!format!("{camera:?}").contains("s3cr3t"));
        assert_eq!(masked("rtsp://h/a@b"), "rtsp://h/a@b");
    }

    #[test]
    fn secrets_follow_only_to_the_same_host() {
        let camera = remote("rtsp://u:p@camera/a");
        let same = camera.redirected("rtsp://CAMERA:8554/b").unwrap();
        assert_eq!((same.user(), same.redirects), (Some("u:p"), REDIRECTS_MAX - 1));
        assert_eq!(same.redirected("rtsp://other/b").unwrap().user(), None);
        assert!(camera.redirected("http://camera/x.flv").is_none());
        let sealed = remote("rtsps://u:p@camera/a");
        assert_eq!(sealed.redirected("rtsp://camera/b").unwrap().user(), None);
    }
}
