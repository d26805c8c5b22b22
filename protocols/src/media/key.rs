//! The only name of a stream: vhost, app and name, validated and normalised once.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Longest stream name in bytes.
const NAME_BYTES_MAX: usize = 255;
/// Longest vhost in bytes.
const VHOST_BYTES_MAX: usize = 255;

/// Why a name cannot be part of a stream key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A part is empty.
    #[error("a part of the stream name is empty")]
    Empty,
    /// A part is too long.
    #[error("a part of the stream name is longer than 255 bytes")]
    TooLong,
    /// A character that is a control, a separator or changes the direction of text.
    #[error("the stream name holds a character that is not allowed")]
    BadCharacter,
    /// A path component is `.`, `..`, begins or ends with a dot, or is empty.
    #[error("the stream name is not a plain path")]
    BadPath,
}

struct Inner {
    vhost: Box<str>,
    app: Box<str>,
    name: Box<str>,
    delay_s: u32,
    hash: u64,
}

/// The key of a live stream, or of the same stream played later than live; cheap to clone and
/// compare, the same on every shard.
#[derive(Clone)]
pub struct StreamKey(Arc<Inner>);

impl StreamKey {
    /// Makes a key. `vhost` is empty for the default vhost. `name` may have several components
    /// separated by `/` (`camera/1`); each is checked.
    ///
    /// # Errors
    /// The part is not acceptable; see [`KeyError`].
    pub fn new(vhost: &str, app: &str, name: &str) -> Result<Self, KeyError> {
        if vhost.len() > VHOST_BYTES_MAX
            || app.len() > NAME_BYTES_MAX
            || name.len() > NAME_BYTES_MAX
        {
            return Err(KeyError::TooLong);
        }
        check_component(app)?;
        if name.is_empty() {
            return Err(KeyError::Empty);
        }
        name.split('/').try_for_each(check_component)?;
        if !vhost.is_empty() {
            check_component(vhost)?;
        }
        let vhost = vhost.to_ascii_lowercase();
        let hash = fnv1a(&[&vhost, app, name]);
        let (vhost, app, name) = (vhost.into(), app.into(), name.into());
        Ok(Self(Arc::new(Inner { vhost, app, name, delay_s: 0, hash })))
    }

    /// The key of this stream so many seconds behind live; with 0 that of the live one.
    #[must_use]
    pub fn delayed(&self, delay_s: u32) -> Self {
        let Inner { vhost, app, name, .. } = &*self.0;
        let hash = match delay_s {
            0 => fnv1a(&[vhost, app, name]),
            delay_s => fnv1a(&[vhost, app, name, &delay_s.to_string()]),
        };
        let (vhost, app, name) = (vhost.clone(), app.clone(), name.clone());
        Self(Arc::new(Inner { vhost, app, name, delay_s, hash }))
    }

    /// Seconds behind live; 0 for the live stream itself.
    pub fn delay_s(&self) -> u32 {
        self.0.delay_s
    }

    /// The vhost; empty for the default one.
    pub fn vhost(&self) -> &str {
        &self.0.vhost
    }

    /// The app.
    pub fn app(&self) -> &str {
        &self.0.app
    }

    /// The stream name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// A hash that is the same on every shard, in every process and release.
    pub fn stable_hash(&self) -> u64 {
        self.0.hash
    }
}

fn check_component(part: &str) -> Result<(), KeyError> {
    if part.is_empty() {
        return Err(KeyError::Empty);
    }
    if part.starts_with('.') || part.ends_with('.') {
        return Err(KeyError::BadPath);
    }
    let bad = |c: char| {
        c.is_control()
            || matches!(c, '/' | '\\' | '%' | '?' | '#' | '<' | '>' | '"' | '\'' | '`' | '|' | '*')
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    if part.chars().any(bad) { Err(KeyError::BadCharacter) } else { Ok(()) }
}

fn fnv1a(parts: &[&str]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for part in parts {
        for byte in part.bytes().chain([0u8]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    // FNV's low bits are weak for short keys that differ in one character; owners are picked by
    // a modulus, so the high half is folded in.
    hash ^ (hash >> 32)
}

impl PartialEq for StreamKey {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || (self.0.hash == other.0.hash
                && self.0.delay_s == other.0.delay_s
                && self.0.name == other.0.name
                && self.0.app == other.0.app
                && self.0.vhost == other.0.vhost)
    }
}
impl Eq for StreamKey {}

impl Hash for StreamKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
    }
}

impl fmt::Display for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.vhost.is_empty() {
            write!(f, "{}/", self.0.vhost)?;
        }
        write!(f, "{}/{}", self.0.app, self.0.name)?;
        if self.0.delay_s > 0 { write!(f, "?delay={}", self.0.delay_s) } else { Ok(()) }
    }
}

impl fmt::Debug for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_compare_by_value_and_vhosts_ignore_case() {
        let a = StreamKey::new("Example.ORG", "live", "cam/1").unwrap();
        let b = StreamKey::new("example.org", "live", "cam/1").unwrap();
        assert_eq!(a, b);
        assert_eq!(a.stable_hash(), b.stable_hash());
        assert_eq!(a.to_string(), "example.org/live/cam/1");
        assert_ne!(a, StreamKey::new("", "live", "cam/1").unwrap());
    }

    #[test]
    fn a_delayed_stream_is_another_one_of_the_same_name() {
        let live = StreamKey::new("", "live", "x").unwrap();
        let later = live.delayed(30);
        assert_eq!((later.app(), later.name(), later.delay_s()), ("live", "x", 30));
        assert_ne!(later, live);
        assert_ne!(later, live.delayed(31));
        assert_eq!(later, live.delayed(5).delayed(30));
        assert_eq!(later.delayed(0), live);
        assert_eq!(later.delayed(0).stable_hash(), live.stable_hash());
        assert_eq!(later.to_string(), "live/x?delay=30");
    }

    #[test]
    fn names_that_could_leave_a_directory_or_a_log_line_are_refused() {
        let long = "x".repeat(4096);
        for name in [
            "",
            "..",
            "a/../b",
            "%2e%2e%2f",
            "a\0b",
            "a\r\nb",
            "\u{1b}[2J",
            "<script>",
            "a\u{202e}b",
            "dot.",
            ".hidden",
            "/",
            "a//b",
            "a/",
            "a\\b",
            &long,
        ] {
            assert!(StreamKey::new("", "live", name).is_err(), "{name:?}");
        }
        for name in ["stream", "流", "cam-1_a.b", "a b", "路/径", "key=val&x:y,z"] {
            assert!(StreamKey::new("", "live", name).is_ok(), "{name:?}");
        }
    }
}
