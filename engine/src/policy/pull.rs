//! `<pulls>`: sources that this server fetches itself.

use std::path::PathBuf;
use std::time::Duration;

use protocols::media::StreamKey;

use super::Reader;
use crate::config::xml::Element;
use crate::config::{ConfigError, Line, Problem, shorten};
use crate::pull::{Entry, Source, Transport, masked};

/// Most entries of a file.
const PULLS_MAX: usize = 4096;
/// Attributes of an entry.
const ATTRIBUTES: &[&str] =
    &["url", "stream", "when", "transport", "linger", "play", "ca", "local"];
/// How long a source stays after its last viewer unless an entry says so.
const LINGER: Duration = Duration::from_secs(10);
/// Longest linger, in seconds.
const LINGER_MAX: u64 = 86_400;

impl Reader<'_> {
    /// All entries of `<pulls>`; one without URL or stream is a placeholder.
    pub(super) fn pulls(&self, group: &Element) -> Result<Vec<Entry>, ConfigError> {
        self.only(group, "pulls", &["pull"], &[])?;
        let mut entries: Vec<Entry> = Vec::new();
        for element in &group.children {
            let Some(entry) = self.pull(element)? else { continue };
            let same = |other: &&Entry| (&other.app, &other.name) == (&entry.app, &entry.name);
            if let Some(first) = entries.iter().find(same) {
                let problem = Problem::Duplicate { first_line: first.line.0 };
                return Err(self.error(element.line, "pulls/pull@stream", problem));
            }
            if entries.len() >= PULLS_MAX {
                let problem = Problem::StrayText(format!("more than {PULLS_MAX} pulls"));
                return Err(self.error(element.line, "pulls/pull", problem));
            }
            entries.push(entry);
        }
        Ok(entries)
    }

    fn pull(&self, element: &Element) -> Result<Option<Entry>, ConfigError> {
        self.only(element, "pulls/pull", &[], ATTRIBUTES)?;
        let wrong = |name: &str, value: &str, wanted: &str| {
            let at = format!("pulls/pull@{name}");
            self.error(element.line, &at, Problem::value(value, wanted))
        };
        let (url, stream) = (element.attribute("url"), element.attribute("stream"));
        if url.is_empty() || stream.is_empty() {
            return Ok(None);
        }
        // Whatever is said of the URL, its password is not.
        let source = Source::parse(url)
            .map_err(|error| wrong("url", &shorten(&masked(url)), &error.to_string()))?;
        let (app, name) = stream.split_once('/').unwrap_or_default();
        if StreamKey::new("", app, name).is_err() {
            return Err(wrong("stream", stream, "app/name, such as live/camera"));
        }
        let one_of = |attribute: &str, first: bool, words: [&str; 2]| {
            let value = element.attribute(attribute);
            match value {
                "" => Ok(first),
                value if value == words[0] => Ok(true),
                value if value == words[1] => Ok(false),
                _ => Err(wrong(attribute, value, &words.join(" or "))),
            }
        };
        let word = |attribute, wanted| wrong(attribute, element.attribute(attribute), wanted);
        Ok(Some(Entry {
            source,
            vhost: String::new(),
            app: app.to_owned(),
            name: name.to_owned(),
            always: one_of("when", false, ["always", "demand"])?,
            transport: transport(element).map_err(|wanted| word("transport", wanted))?,
            linger: linger(element).map_err(|wanted| word("linger", wanted))?,
            ca: Some(element.attribute("ca")).filter(|ca| !ca.is_empty()).map(PathBuf::from),
            local: self.truth(element, "pulls/pull", "local")?,
            once: one_of("play", false, ["once", "loop"])?,
            line: Line(element.line),
        }))
    }
}

/// How RTP travels; else what the attribute should be.
pub(super) fn transport(element: &Element) -> Result<Transport, &'static str> {
    match element.attribute("transport") {
        "" | "auto" => Ok(Transport::Auto),
        "tcp" => Ok(Transport::Tcp),
        "udp" => Ok(Transport::Udp),
        _ => Err("auto, tcp or udp"),
    }
}

/// How long a source stays after its last viewer; else what the attribute should be.
pub(super) fn linger(element: &Element) -> Result<Duration, &'static str> {
    match element.attribute("linger") {
        "" => Ok(LINGER),
        text => match text.parse() {
            Ok(seconds) if seconds <= LINGER_MAX => Ok(Duration::from_secs(seconds)),
            _ => Err("seconds, at most 86400"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::load_str;
    use super::*;

    fn pulls(inside: &str) -> Result<Vec<Entry>, String> {
        let text = format!("<policy>\n<pulls>\n{inside}</pulls></policy>");
        load_str("p.xml", &text).map(|policy| policy.pulls).map_err(|error| error.to_string())
    }

    #[test]
    fn entries_are_read_with_their_defaults() {
        let text = "<pull url='rtsp://u:p@c/1' stream='live/cam' when='always' transport='udp'/>
            <pull url='rtmp://h/live/x' stream='live/x' linger='3'/>
            <pull url='file:a.mp4' stream='live/film' play='once'/>
            <pull url='' stream='live/nothing'/>";
        let entries = pulls(text).unwrap();
        let [camera, other, film] = entries.as_slice() else { panic!("{entries:?}") };
        assert!(camera.always && !other.always && !other.once && film.once);
        assert_eq!((camera.transport, other.transport), (Transport::Udp, Transport::Auto));
        assert_eq!((camera.app.as_str(), camera.name.as_str()), ("live", "cam"));
        assert_eq!((camera.linger, other.linger), (LINGER, Duration::from_secs(3)));
        assert_eq!(&*camera.shown(), "rtsp://***@c/1");
    }

    #[test]
    fn bad_entries_give_one_sentence_without_secrets() {
        for (text, sentence) in [
            ("<pull url='srt://u:secret@c/1' stream='live/c'/>", "srt://***@c/1"),
            ("<pull url='ftp://u:secret@c/1' stream='live/c'/>", "ftp://***@c/1"),
            ("<pull url='rtsp://c/1' stream='live'/>", "is not app/name"),
            ("<pull url='rtsp://c/1' stream='live/c' when='now'/>", "is not always or demand"),
            ("<pull url='rtsp://c/1' stream='live/c' transport='sctp'/>", "auto, tcp or udp"),
            ("<pull url='rtsp://c/1' stream='live/c' linger='-1'/>", "seconds"),
            ("<pull uri='rtsp://c/1' stream='live/c'/>", "pulls/pull@uri"),
            (
                "<pull url='rtsp://c/1' stream='live/c'/>\n<pull url='rtsp://d' stream='live/c'/>",
                "p.xml:4: pulls/pull@stream: is given twice, first on line 3",
            ),
        ] {
            let error = pulls(text).unwrap_err();
            assert!(error.contains(sentence), "{text}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
