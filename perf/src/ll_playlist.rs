//! What a low-latency HLS player reads in a media playlist (draft-pantos-hls-rfc8216bis).

/// A part by the number of its segment and its own in it.
pub type PartId = (u64, u64);

/// One part that is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Which.
    pub id: PartId,
    /// As listed, relative to the playlist.
    pub uri: String,
    /// A player can start at it.
    pub independent: bool,
}

/// One playlist.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Playlist {
    /// The parts, oldest first.
    pub parts: Vec<Part>,
    /// The initialization segment listed last.
    pub map: Option<String>,
    /// What a blocking reload asks for next.
    pub next: PartId,
    /// Delta updates are offered.
    pub can_skip: bool,
    /// Nothing follows.
    pub ended: bool,
}

impl Playlist {
    /// Reads a playlist.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        if !text.starts_with("#EXTM3U") {
            return Err("not a playlist".to_owned());
        }
        let mut playlist = Self::default();
        let (mut segment, mut part) = (0u64, 0);
        for line in text.lines() {
            let Some((tag, value)) = line.split_once(':') else {
                playlist.ended |= line == "#EXT-X-ENDLIST";
                // A line that is no tag ends a segment.
                if !line.is_empty() && !line.starts_with('#') {
                    (segment, part) = (segment + 1, 0);
                }
                continue;
            };
            match tag {
                "#EXT-X-MEDIA-SEQUENCE" => {
                    segment = value.trim().parse().map_err(|_| "a bad media sequence")?;
                }
                "#EXT-X-SKIP" => {
                    let skipped = attribute(value, "SKIPPED-SEGMENTS=");
                    segment += skipped.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
                }
                "#EXT-X-SERVER-CONTROL" => playlist.can_skip = value.contains("CAN-SKIP-UNTIL="),
                "#EXT-X-MAP" => playlist.map = attribute(value, "URI=").map(str::to_owned),
                "#EXT-X-PART" => {
                    let uri = attribute(value, "URI=").ok_or("a part without URI")?.to_owned();
                    let independent = attribute(value, "INDEPENDENT=") == Some("YES");
                    playlist.parts.push(Part { id: (segment, part), uri, independent });
                    part += 1;
                }
                _ => {}
            }
        }
        playlist.next = (segment, part);
        Ok(playlist)
    }
}

/// An attribute of a list, without its quotes.
fn attribute<'a>(list: &'a str, name: &str) -> Option<&'a str> {
    let at = list.find(name)?;
    let value = list.get(at + name.len()..)?;
    match value.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => value.split(',').next().map(str::trim),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_numbers_also_behind_a_skip() {
        let text = "#EXTM3U\n#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=6.0\n\
            #EXT-X-MEDIA-SEQUENCE:10\n#EXT-X-SKIP:SKIPPED-SEGMENTS=3\n\
            #EXT-X-MAP:URI=\"x/init.mp4\"\n\
            #EXT-X-PART:DURATION=0.2,URI=\"x/a.m4s\",INDEPENDENT=YES\n\
            #EXT-X-PART:DURATION=0.2,URI=\"x/b.m4s\"\n#EXTINF:0.4,\nx/seg.m4s\n\
            #EXT-X-PART:DURATION=0.2,URI=\"x/c.m4s\"\n\
            #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"x/d.m4s\"\n";
        let playlist = Playlist::parse(text).unwrap();
        let ids: Vec<_> = playlist.parts.iter().map(|part| part.id).collect();
        assert_eq!(ids, [(13, 0), (13, 1), (14, 0)]);
        assert_eq!(playlist.next, (14, 1));
        assert_eq!(playlist.map.as_deref(), Some("x/init.mp4"));
        assert!(playlist.can_skip && !playlist.ended);
        let independent: Vec<_> = playlist.parts.iter().map(|part| part.independent).collect();
        assert_eq!(independent, [true, false, false]);
        assert!(Playlist::parse("<html>").is_err());
    }
}
