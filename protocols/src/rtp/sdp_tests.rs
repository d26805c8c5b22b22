//! Descriptions other tools wrote, hostile ones, and ours read back.

use bytes::Bytes;

use super::*;
use crate::media::{AudioInfo, Codec, Track, VideoInfo};

/// As ffmpeg 5.1 announces H.264 and AAC, with CRLF.
const FFMPEG: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=No Name\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
    a=tool:libavformat 59.27.100\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n\
    a=fmtp:96 packetization-mode=1; sprop-parameter-sets=Z0LAHtoCgL/lwFqAgICgAAADACAAAAeB4sXU,aM4PyA==; profile-level-id=42C01E\r\n\
    a=control:streamid=0\r\nm=audio 0 RTP/AVP 97\r\nb=AS:128\r\na=rtpmap:97 MPEG4-GENERIC/44100/2\r\n\
    a=fmtp:97 profile-level-id=1;mode=AAC-hbr;sizelength=13;indexlength=3;indexdeltalength=3; config=1210\r\n\
    a=control:streamid=1\r\n";
/// As GStreamer's rtspclientsink 1.22 announces G.711.
const GSTREAMER: &str = "v=0\r\no=- 1189813123 0 IN IP4 127.0.0.1\r\ns=Session streamed with GStreamer\r\n\
    i=rtspclientsink\r\nt=0 0\r\na=tool:GStreamer\r\nm=audio 0 RTP/AVP 8\r\nc=IN IP4 127.0.0.1\r\n\
    b=AS:64\r\na=rtpmap:8 PCMA/8000\r\na=control:stream=0\r\na=ts-refclk:local\r\na=mediaclk:sender\r\n";

fn known(medium: &Medium) -> &PayloadFormat {
    match &medium.format {
        MediumFormat::Known(format) => format,
        other => panic!("{other:?}"),
    }
}

#[test]
fn descriptions_of_publishers() {
    for text in [FFMPEG.to_owned(), FFMPEG.replace("\r\n", "\n"), format!("{FFMPEG}\r\n\0")] {
        let description = parse(text.as_bytes()).unwrap();
        let [video, audio] = &description.media[..] else { panic!("{description:?}") };
        assert_eq!((video.control.as_str(), audio.control.as_str()), ("streamid=0", "streamid=1"));
        let (video, audio) = (known(video), known(audio));
        assert_eq!((video.codec, video.clock_rate, video.payload_type), (Codec::H264, 90_000, 96));
        assert_eq!((audio.codec, audio.clock_rate, audio.channels), (Codec::Aac, 44_100, 2));
        assert!(video.parameters.iter().any(|(name, _)| &**name == "sprop-parameter-sets"));
    }
    let description = parse(GSTREAMER.as_bytes()).unwrap();
    assert_eq!(description.control, "");
    assert_eq!(description.media[0].control, "stream=0");
    assert_eq!(known(&description.media[0]).codec, Codec::G711A);
}

#[test]
fn what_can_be_used_is_found_and_the_rest_is_named() {
    let medium = |lines: &str| {
        let text = format!("v=0\r\n{lines}");
        parse(text.as_bytes()).map(|mut description| description.media.remove(0).format)
    };
    let unsupported = |lines: &str| match medium(lines) {
        Ok(MediumFormat::Unsupported(what)) => what,
        other => panic!("{lines}: {other:?}"),
    };
    assert!(matches!(medium("m=audio 0 RTP/AVP 0"), Ok(MediumFormat::Known(_))));
    assert!(matches!(
        medium("m=audio 0 RTP/AVP 111 8\r\na=rtpmap:111 foo/8000"),
        Ok(MediumFormat::Known(format)) if format.codec == Codec::G711A
    ));
    assert!(matches!(medium("m=application 0 RTP/AVP 107"), Ok(MediumFormat::Other)));
    assert!(unsupported("m=video 0 RTP/AVP 96").contains("without rtpmap"));
    assert!(unsupported("m=video 0 RTP/AVP 4294967296").contains("payload type 4294967296"));
    assert!(unsupported("m=video 0 RTP/AVP 128").contains("payload type 128"));
    assert!(unsupported("m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/0").contains("rtpmap"));
    assert!(unsupported("m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/4294967296").contains("rtpmap"));
    assert!(unsupported("m=audio 0 RTP/AVP 96\r\na=rtpmap:96 opus/48000/x").contains("rtpmap"));
    assert!(unsupported("m=video 0 RTP/AVP 96\r\na=rtpmap:96 theora/90000").contains("theora"));
    assert!(unsupported("m=video 0 RTP/AVP 0").contains("wrong kind"));
    assert!(unsupported("m=video 0 udp 96").contains("udp"));
}

#[test]
fn hostile_descriptions_are_refused() {
    let media = "m=audio 0 RTP/AVP 0\r\n";
    let lines = format!("v=0\r\n{}", "a=x\r\n".repeat(LINES_MAX));
    for (text, expected) in [
        (String::new(), "not a session description"),
        ("hello".to_owned(), "not a session description"),
        ("v=1\r\n".to_owned(), "not a session description"),
        ("v=0\r\ns=a\0b\r\n".to_owned(), "not a session description"),
        ("v=0\r\n".to_owned(), "without media"),
        (format!("v=0\r\n{}", media.repeat(17)), "limit of 16 media"),
        (lines, "limit of 1024 lines"),
        (format!("v=0\r\n{}", "a".repeat(SDP_BYTES_MAX)), "limit of 65536 bytes"),
        (format!("v=0\r\n{media}a=control:{}\r\n", "a".repeat(1025)), "bytes of a control"),
        (format!("v=0\r\n{media}a=control:1\r\n{media}a=control:1\r\n"), "one control"),
    ] {
        let error = parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn what_is_written_is_read_back() {
    let video = Track { codec: Codec::G711U, config: Bytes::new(), info: VideoInfo::default() };
    let info = AudioInfo { sample_rate: 8000, channels: 1, sample_bits: 16 };
    let audio = Track { codec: Codec::G711A, config: Bytes::new(), info };
    let presentation = Presentation {
        id: 7,
        address: "10.0.0.1".parse().unwrap(),
        name: "live/x\r\na=evil:1",
        tool: "t",
    };
    let tracks = Tracks { audio: Some(audio), ..Tracks::default() };
    let write = |tracks: &Tracks| {
        let (video, audio) = formats(tracks);
        write((video.as_ref(), audio.as_ref()), presentation, "trackID=")
    };
    let text = write(&tracks).unwrap();
    let expected = "v=0\r\no=- 7 1 IN IP4 10.0.0.1\r\ns=live/xa=evil:1\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n\
        a=tool:t\r\na=type:broadcast\r\na=control:*\r\na=range:npt=now-\r\nm=audio 0 RTP/AVP 8\r\n\
        a=rtpmap:8 PCMA/8000\r\na=control:trackID=1\r\n";
    assert_eq!(String::from_utf8(text.clone()).unwrap(), expected);
    let description = parse(&text).unwrap();
    assert_eq!((description.control.as_str(), description.media.len()), ("*", 1));
    assert_eq!(description.media[0].control, "trackID=1");
    let none = Tracks { video: Some(video), ..Tracks::default() };
    assert_eq!(write(&none), None);
}
