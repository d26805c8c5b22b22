//! Playlists as they were rendered: thousands of players ask for the same text at the same moment.

use std::cell::RefCell;
use std::collections::HashMap;

use bytes::Bytes;
use protocols::media::StreamKey;

/// Texts kept; a fresh part makes all older ones useless, so all go when there are more.
const TEXTS_MAX: usize = 512;
/// Bytes kept.
const BYTES_MAX: usize = 4 << 20;

/// What a text depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct TextKey {
    /// The stream.
    pub(super) stream: StreamKey,
    /// State of the playlist, as its entity tag names it.
    pub(super) tag: String,
    /// With parts.
    pub(super) low_latency: bool,
    /// What goes with every URI.
    pub(super) query: String,
    /// Compressed.
    pub(super) gzip: bool,
}

/// See the module text. One per shard.
#[derive(Debug, Default)]
pub(crate) struct TextCache(RefCell<(HashMap<TextKey, Bytes>, usize)>);

impl TextCache {
    /// The text of a key, made when it is not there.
    pub(super) fn get(&self, key: TextKey, make: impl FnOnce() -> Bytes) -> Bytes {
        if let Some(text) = self.0.borrow().0.get(&key) {
            return text.clone();
        }
        let text = make();
        let (texts, bytes) = &mut *self.0.borrow_mut();
        if texts.len() >= TEXTS_MAX || *bytes + text.len() > BYTES_MAX {
            texts.clear();
            *bytes = 0;
        }
        *bytes += text.len();
        texts.insert(key, text.clone());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_made_once_and_the_cache_is_bounded() {
        let cache = TextCache::default();
        let stream = StreamKey::new("", "live", "a").unwrap();
        let key = |n: usize| TextKey {
            stream: stream.clone(),
            tag: n.to_string(),
            low_latency: true,
            query: String::new(),
            gzip: false,
        };
        assert_eq!(cache.get(key(0), || "first".into()), "first");
        assert_eq!(cache.get(key(0), || unreachable!("it is there")), "first");
        for n in 0..3 * TEXTS_MAX {
            cache.get(key(n), || vec![0; 64 << 10].into());
        }
        let (texts, bytes) = &*cache.0.borrow();
        assert!(texts.len() <= TEXTS_MAX && *bytes <= BYTES_MAX, "{} {bytes}", texts.len());
    }
}
