//! The multivariant playlist: which variants there are and what each needs.

use std::fmt::Write;

use crate::text::push_uri;

/// An audio rendition (`EXT-X-MEDIA`, 4.4.6.1).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AudioRendition {
    /// The group variants refer to.
    pub group_id: String,
    /// Name shown to people, unique within the group.
    pub name: String,
    /// RFC 5646 language tag.
    pub language: Option<String>,
    /// Played unless somebody chooses; at most one of a group.
    pub default: bool,
    /// Channels; 0 where unknown.
    pub channels: u8,
    /// URI reference of its media playlist; `None`: the sound is within the variants.
    pub uri: Option<String>,
}

/// A variant stream (`EXT-X-STREAM-INF`, 4.4.6.2).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Variant {
    /// URI reference of its media playlist.
    pub uri: String,
    /// Peak bits per second of a segment, with the largest audio rendition.
    pub bandwidth: u64,
    /// Average bits per second.
    pub average_bandwidth: Option<u64>,
    /// RFC 6381 codecs of everything in it, its audio renditions included.
    pub codecs: Vec<String>,
    /// Width and height in pixels.
    pub resolution: Option<(u32, u32)>,
    /// Largest frames per second.
    pub frame_rate: Option<f64>,
    /// The group of its audio renditions.
    pub audio_group: Option<String>,
}

/// A multivariant playlist.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MultivariantPlaylist {
    /// Every segment of every variant can be decoded without another.
    pub independent_segments: bool,
    /// Audio renditions.
    pub audio: Vec<AudioRendition>,
    /// Variants; the first is the one played at start.
    pub variants: Vec<Variant>,
}

impl MultivariantPlaylist {
    /// The playlist as text; `query` goes with every URI.
    pub fn render(&self, query: &str) -> String {
        // Version 4 brought alternative renditions; nothing newer is used here.
        let mut out = String::from("#EXTM3U\n#EXT-X-VERSION:4\n");
        if self.independent_segments {
            out.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
        }
        self.audio.iter().for_each(|rendition| push_rendition(&mut out, rendition, query));
        self.variants.iter().for_each(|variant| push_variant(&mut out, variant, query));
        out
    }
}

fn push_rendition(out: &mut String, rendition: &AudioRendition, query: &str) {
    out.push_str("#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=");
    push_quoted(out, &rendition.group_id);
    out.push_str(",NAME=");
    push_quoted(out, &rendition.name);
    if let Some(language) = &rendition.language {
        out.push_str(",LANGUAGE=");
        push_quoted(out, language);
    }
    out.push_str(if rendition.default { ",DEFAULT=YES" } else { ",DEFAULT=NO" });
    out.push_str(",AUTOSELECT=YES");
    if rendition.channels > 0 {
        push_quoted_attribute(out, "CHANNELS", &rendition.channels.to_string());
    }
    if let Some(reference) = &rendition.uri {
        out.push_str(",URI=\"");
        push_uri(out, reference, query);
        out.push('"');
    }
    out.push('\n');
}

fn push_variant(out: &mut String, variant: &Variant, query: &str) {
    out.push_str("#EXT-X-STREAM-INF:BANDWIDTH=");
    out.push_str(&variant.bandwidth.to_string());
    if let Some(average) = variant.average_bandwidth {
        push_attribute(out, "AVERAGE-BANDWIDTH", format_args!("{average}"));
    }
    if !variant.codecs.is_empty() {
        push_quoted_attribute(out, "CODECS", &variant.codecs.join(","));
    }
    if let Some((width, height)) = variant.resolution {
        push_attribute(out, "RESOLUTION", format_args!("{width}x{height}"));
    }
    if let Some(rate) = variant.frame_rate.filter(|rate| rate.is_finite() && *rate > 0.0) {
        push_attribute(out, "FRAME-RATE", format_args!("{rate:.3}"));
    }
    if let Some(group) = &variant.audio_group {
        push_quoted_attribute(out, "AUDIO", group);
    }
    out.push('\n');
    push_uri(out, &variant.uri, query);
    out.push('\n');
}

fn push_attribute(out: &mut String, name: &str, value: std::fmt::Arguments<'_>) {
    write!(out, ",{name}={value}").expect("writing to a String cannot fail");
}

fn push_quoted_attribute(out: &mut String, name: &str, value: &str) {
    push_attribute(out, name, format_args!(""));
    push_quoted(out, value);
}

/// A quoted string (4.2), which has no escapes: what it cannot hold is replaced.
fn push_quoted(out: &mut String, text: &str) {
    let safe = |c: char| match c {
        '"' => '\'',
        c if c.is_control() => ' ',
        c => c,
    };
    out.push('"');
    out.extend(text.chars().map(safe));
    out.push('"');
}
