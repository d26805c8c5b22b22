//! Tests of ranges and of bodies made of files.

use std::future::poll_fn;
use std::io::Write;

use glommio::LocalExecutorBuilder;

use super::*;

fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
}

#[test]
fn one_range_is_served_and_nonsense_is_the_whole() {
    let range = |text: &str| wanted(&headers(&[(header::RANGE, text)]), None, 1000);
    assert_eq!(range("bytes=0-0"), Wanted::Range(0..1));
    assert_eq!(range("bytes=10-19"), Wanted::Range(10..20));
    assert_eq!(range("bytes=990-"), Wanted::Range(990..1000));
    assert_eq!(range("bytes=990-99999999999999999999"), Wanted::Range(990..1000));
    assert_eq!(range("bytes=-10"), Wanted::Range(990..1000));
    assert_eq!(range("bytes=-5000"), Wanted::Range(0..1000));
    for text in ["bytes=1000-", "bytes=99999999999999999999-", "bytes=-0"] {
        assert_eq!(range(text), Wanted::Impossible, "{text}");
    }
    for text in ["bytes=-", "bytes=5-2", "bytes=a-b", "bytes=0-1,5-9", "lines=0-1", "bytes=+1-2"] {
        assert_eq!(range(text), Wanted::Whole, "{text}");
    }
    let tag = HeaderValue::from_static("\"t\"");
    let pair = [(header::RANGE, "bytes=0-0"), (header::IF_RANGE, "\"t\"")];
    assert_eq!(wanted(&headers(&pair), Some(&tag), 9), Wanted::Range(0..1));
    assert_eq!(wanted(&headers(&pair), None, 9), Wanted::Whole, "it has changed");
    assert_eq!(wanted(&headers(&pair[..1]), None, 0), Wanted::Impossible);
}

async fn body_of(reply: Reply) -> Vec<u8> {
    let Body::Pulled(mut source) = reply.into_body() else { panic!("pulled") };
    let mut body = Vec::new();
    while let Some(piece) = poll_fn(|cx| source.poll_piece(cx)).await {
        let piece = piece.unwrap();
        assert!(!piece.is_empty() && piece.len() as u64 <= READ_BYTES_MAX);
        body.extend_from_slice(&piece);
    }
    assert_eq!(source.remaining(), Some(0));
    body
}

#[test]
fn any_range_of_several_spans_is_what_the_file_holds() {
    let path = std::env::temp_dir().join(format!("spans-{}", std::process::id()));
    let bytes: Vec<u8> = (0..900_000u32).map(|n| (n * 7 % 251) as u8).collect();
    std::fs::File::create(&path).unwrap().write_all(&bytes).unwrap();
    let opened = std::fs::File::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let spans = [(10, 5), (100, 600_000), (800_000, 1), (700_000, 90_000)];
    let spans = spans.map(|(offset, bytes)| Span { offset, bytes });
    let pick = |span: &Span| &bytes[span.offset as usize..(span.offset + span.bytes) as usize];
    let whole: Vec<u8> = spans.iter().flat_map(|span| pick(span).to_vec()).collect();
    let executor = LocalExecutorBuilder::default().io_memory(64 << 10).ring_depth(64);
    let run = executor.spawn(move || async move {
        for range in [0..690_006, 0..1, 4..6, 5..600_005, 600_004..600_007, 690_005..690_006] {
            let (first, last) = (range.start, range.end - 1);
            let asked = headers(&[(header::RANGE, &format!("bytes={first}-{last}"))]);
            let content = Content::of_spans(opened.try_clone().unwrap(), &spans);
            let reply = reply(content, "video/mp4", None, &asked);
            assert_eq!(reply.status(), 206);
            let length = &reply.headers()[header::CONTENT_LENGTH];
            assert_eq!(length, &(range.end - range.start).to_string());
            let seen = &reply.headers()[header::CONTENT_RANGE];
            assert_eq!(seen, &format!("bytes {first}-{last}/690006"));
            assert!(body_of(reply).await == whole[range.clone()], "{range:?}");
        }
        let content = Content::of_spans(opened.try_clone().unwrap(), &spans);
        let reply = reply(content, "video/mp4", None, &HeaderMap::new());
        assert_eq!(reply.status(), 200);
        assert!(body_of(reply).await == whole);
    });
    run.unwrap().join().unwrap();
}

#[test]
fn a_file_that_has_shrunk_breaks_the_answer() {
    let path = std::env::temp_dir().join(format!("shrunk-{}", std::process::id()));
    std::fs::write(&path, [1; 100]).unwrap();
    let opened = std::fs::File::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let executor = LocalExecutorBuilder::default().io_memory(64 << 10).ring_depth(64);
    let run = executor.spawn(move || async move {
        let reply =
            reply(Content::of_file(opened, 200, Vec::new()), "video/mp4", None, &HeaderMap::new());
        let Body::Pulled(mut source) = reply.into_body() else { panic!("pulled") };
        let first = poll_fn(|cx| source.poll_piece(cx)).await;
        assert_eq!(first.unwrap().unwrap().len(), 100);
        let second = poll_fn(|cx| source.poll_piece(cx)).await;
        assert_eq!(second.unwrap().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    });
    run.unwrap().join().unwrap();
}

#[test]
fn what_the_peer_has_is_not_sent_again() {
    let asked = headers(&[(header::IF_NONE_MATCH, "\"x\", W/\"t\"")]);
    let content = || Content::of_bytes(Bytes::from_static(b"abc"));
    let known = reply(content(), "video/mp4", Some("\"t\"".into()), &asked);
    assert_eq!(known.status(), 304);
    let other = reply(content(), "video/mp4", Some("\"u\"".into()), &asked);
    assert_eq!(other.status(), 200);
}
