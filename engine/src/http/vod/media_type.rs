//! The media type of a file by its extension. Nothing that a browser would run: what is not media
//! is a download.

const TYPES: &[(&str, &str)] = &[
    ("mp4", "video/mp4"),
    ("m4v", "video/mp4"),
    ("m4s", "video/iso.segment"),
    ("cmfv", "video/mp4"),
    ("cmfa", "audio/mp4"),
    ("m4a", "audio/mp4"),
    ("mov", "video/quicktime"),
    ("ts", "video/mp2t"),
    ("m2ts", "video/mp2t"),
    ("flv", "video/x-flv"),
    ("mkv", "video/x-matroska"),
    ("mka", "audio/x-matroska"),
    ("webm", "video/webm"),
    ("avi", "video/x-msvideo"),
    ("3gp", "video/3gpp"),
    ("mpg", "video/mpeg"),
    ("mpeg", "video/mpeg"),
    ("ogv", "video/ogg"),
    ("ogg", "audio/ogg"),
    ("opus", "audio/ogg"),
    ("mp3", "audio/mpeg"),
    ("aac", "audio/aac"),
    ("flac", "audio/flac"),
    ("wav", "audio/wav"),
    ("m3u8", protocols::hls::MEDIA_TYPE),
    ("mpd", "application/dash+xml"),
    ("vtt", "text/vtt; charset=utf-8"),
    ("srt", "text/plain; charset=utf-8"),
    ("txt", "text/plain; charset=utf-8"),
    ("json", "application/json"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("png", "image/png"),
    ("gif", "image/gif"),
    ("webp", "image/webp"),
    ("avif", "image/avif"),
];

/// The media type of a file of this name.
pub(super) fn of(path: &str) -> &'static str {
    let file = path.rsplit('/').next().unwrap_or(path);
    let extension = file.rsplit_once('.').map_or("", |(_, extension)| extension);
    let known = TYPES.iter().find(|(known, _)| known.eq_ignore_ascii_case(extension));
    known.map_or("application/octet-stream", |(_, media_type)| media_type)
}

/// The content may change under its name at any time: playlists.
pub(super) fn is_volatile(media_type: &str) -> bool {
    media_type == protocols::hls::MEDIA_TYPE || media_type == "application/dash+xml"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_plays_and_the_rest_is_a_download() {
        assert_eq!(of("a/b.MP4"), "video/mp4");
        assert_eq!(of("x.tar.ts"), "video/mp2t");
        for other in ["x", "a.mp4/x", "x.html", "x.svg", "x.js", "x.", ".mp4x"] {
            assert_eq!(of(other), "application/octet-stream", "{other}");
        }
    }
}
