//! What was recorded is what was published, in pieces, playlists, manifests and joined files.

use super::*;

/// The samples of all pieces, and the checks every piece must pass.
fn read_all(root: &Path) -> ([Samples; 2], usize) {
    let mut all: [Samples; 2] = Default::default();
    let pieces = pieces(root);
    for (piece, file) in &pieces {
        assert!(!piece.is_open && piece.index.ended);
        assert_eq!(piece.media_bytes(), file.metadata().unwrap().len());
        let read = samples(&bytes_of(file, piece.media_bytes()));
        let first = |track: &Samples| track.first().map(|sample| sample.1);
        let starts: Vec<u64> = read.iter().filter_map(first).collect();
        assert!(starts.contains(&0), "a piece begins at 0: {starts:?}");
        for (track, all) in read.into_iter().zip(&mut all) {
            assert!(track.windows(2).all(|pair| pair[0].1 < pair[1].1), "times rise");
            assert!(track.first().is_none_or(|sample| sample.2), "begins with a keyframe");
            all.extend(track);
        }
    }
    (all, pieces.len())
}

#[test]
fn frames_come_back_as_they_went_in() {
    for (file, has_video) in [
        (H264_AAC, true),
        (H264_AC3, true),
        (H265_OPUS, true),
        (AV1_AAC, true),
        (VP9_FLAC, true),
        // Sorenson video is not for MP4: the sound alone.
        (FLV1_ALAW, false),
    ] {
        let root = Folder::new();
        let counts = record(&root.0, file, 4, |_| {});
        let ([video, audio], count) = read_all(&root.0);
        assert_eq!((count, counts.pieces, counts.streams), (1, 1, 0));
        let clip = clip(file);
        let payloads =
            |track: Samples| track.into_iter().map(|sample| sample.0).collect::<Vec<_>>();
        let expected = if has_video { clip.payloads(true, 4) } else { Vec::new() };
        assert!(payloads(video) == expected, "video");
        // Sound before the first picture is not recorded.
        let early = clip.frames.iter().take_while(|frame| has_video && !frame.kind.is_video());
        let (recorded, mut expected) = (payloads(audio), clip.payloads(false, 4));
        expected.drain(..early.count());
        let codec = clip.tracks.audio.as_ref().unwrap().codec;
        assert_eq!(recorded.len(), expected.len(), "{codec:?}");
        assert!(recorded == expected, "{codec:?}");
        let (piece, _) = &pieces(&root.0)[0];
        assert_eq!(counts.bytes, piece.media_bytes());
        assert_eq!(counts.queue_bytes, 0);
        assert!(GapReason::ALL.iter().all(|reason| counts.gaps(*reason) == 0));
        // About one pair a second.
        assert!((4..=10).contains(&piece.index.pairs.len()), "{}", piece.index.pairs.len());
    }
}

#[test]
fn pieces_begin_with_keyframes_and_lose_nothing_between_them() {
    let root = Folder::new();
    let counts = record(&root.0, H264_AAC, 12, |config| {
        config.record.piece = Duration::from_secs(3);
    });
    let ([video, audio], count) = read_all(&root.0);
    assert_eq!((count, counts.pieces), (5, 5));
    let clip = clip(H264_AAC);
    let payloads = |track: Samples| track.into_iter().map(|sample| sample.0).collect::<Vec<_>>();
    assert!(payloads(video) == clip.payloads(true, 12), "video");
    assert!(payloads(audio) == clip.payloads(false, 12), "sound");
    let pieces = pieces(&root.0);
    for pair in pieces.windows(2) {
        let (before, after) = (&pair[0].0, &pair[1].0);
        assert_eq!(before.index.header.session, after.index.header.session);
        assert!(before.name < after.name);
        // Their clocks meet, to the millisecond that both round to.
        assert!(before.end_unix_ms().abs_diff(after.unix_ms()) < 50);
    }
}

#[test]
fn other_tracks_begin_another_piece() {
    let root = Folder::new();
    let config = config(&root.0);
    let counts = on_executor(move || async move {
        let hub = Hub::new();
        let mut recorder = hub.record(&key(), &config).unwrap();
        let start = clock::now();
        clip(H264_AAC).play(&mut recorder, 0..3, start);
        clip(H265_OPUS).play(&mut recorder, 3..6, start);
        drop(recorder);
        hub.finish(clock::now() + Duration::from_secs(10)).await;
        hub.counts()
    });
    let pieces = pieces(&root.0);
    assert_eq!((pieces.len(), counts.pieces), (2, 2));
    let codec = |n: usize| pieces[n].0.tracks.video.as_ref().unwrap().codec.name();
    assert_eq!((codec(0), codec(1)), ("h264", "h265"));
    let ([video, audio], _) = read_all(&root.0);
    assert_eq!((video.len(), audio.len()), (6 * 25, 3 * 48 + 3 * 51));
    let window = 0..u64::MAX;
    let all: Vec<Piece> = pieces.into_iter().map(|(piece, _)| piece).collect();
    let joined = join(&Library::new(&root.0), &all, &window);
    assert_eq!(joined.err(), Some(JoinError::TracksDiffer));
}

#[test]
fn a_publisher_that_returns_begins_another_piece_and_a_set_clock_does_too() {
    let root = Folder::new();
    let config = config(&root.0);
    on_executor(move || async move {
        let hub = Hub::new();
        let clip = clip(H264_AAC);
        let start = clock::now();
        for session in 0..2 {
            let mut recorder = hub.record(&key(), &config).unwrap();
            clip.play(&mut recorder, 0..2, start + Duration::from_secs(session * 10));
            recorder.take(&MediaItem::Offline, start);
            // What comes from somebody deposed is nobody's.
            clip.play(&mut recorder, 2..3, start);
        }
        let mut recorder = hub.record(&key(), &config).unwrap();
        clip.play(&mut recorder, 0..2, start + Duration::from_secs(20));
        clip.play(&mut recorder, 2..4, start + Duration::from_secs(60));
        drop(recorder);
        hub.finish(clock::now() + Duration::from_secs(10)).await;
    });
    let pieces = pieces(&root.0);
    assert_eq!(pieces.len(), 4);
    let session = |n: usize| pieces[n].0.index.header.session;
    assert!(session(0) != session(1) && session(2) == session(3));
    let apart = pieces[3].0.unix_ms() - pieces[2].0.end_unix_ms();
    assert!((39_000..41_000).contains(&apart), "{apart}");
    let all: Vec<Piece> = pieces.iter().map(|(piece, _)| piece.clone()).collect();
    let uri = |piece: &Piece| piece.name.media_file();
    let text = playlist(&all, None, Tail::Ended, uri, "").unwrap();
    // Where the publisher had gone there is a seam, and where the clock was set.
    assert_eq!(text.matches("#EXT-X-DISCONTINUITY\n").count(), 3, "{text}");
    let [video, _] = samples(&played(&text, &pieces));
    assert!(video.windows(2).all(|pair| pair[0].1 < pair[1].1));
}

/// The segments of a playlist: file, offset, length.
fn listed(text: &str) -> Vec<(String, u64, u64)> {
    let mut range = (0, 0);
    let mut listed = Vec::new();
    for line in text.lines() {
        if let Some((length, offset)) =
            line.strip_prefix("#EXT-X-BYTERANGE:").and_then(|range| range.split_once('@'))
        {
            range = (offset.parse().unwrap(), length.parse().unwrap());
        } else if !line.starts_with('#') {
            listed.push((line.to_owned(), range.0, range.1));
        }
    }
    listed
}

/// What a player gets that asks for the segments of a playlist.
fn played(text: &str, pieces: &[(Piece, File)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (uri, offset, length) in listed(text) {
        let of_uri = |(piece, _): &&(Piece, File)| uri.starts_with(&piece.name.media_file());
        let (piece, file) = pieces.iter().find(of_uri).unwrap();
        let mut bytes = vec![0; length as usize];
        file.read_exact_at(&mut bytes, offset).unwrap();
        let shift = uri.split_once("?shift=").map(|(_, shift)| shift.split_once(',').unwrap());
        let shift = shift.map_or([0, 0], |(v, a)| [v.parse().unwrap(), a.parse().unwrap()]);
        for patch in piece.shifted(file, shift, &(offset..offset + length)).unwrap() {
            patch.apply(&mut bytes, offset);
        }
        out.extend(bytes);
    }
    out
}

#[test]
fn a_playlist_over_pieces_plays_on_one_timeline() {
    let root = Folder::new();
    record(&root.0, H264_AAC, 12, |config| config.record.piece = Duration::from_secs(3));
    let files = pieces(&root.0);
    let all: Vec<Piece> = files.iter().map(|(piece, _)| piece.clone()).collect();
    let uri = |piece: &Piece| piece.name.media_file();
    let text = playlist(&all, None, Tail::Ended, uri, "").unwrap();
    let [video, audio] = samples(&played(&text, &files));
    assert_eq!((video.len(), audio.len()), (12 * 25, 12 * 48));
    assert_eq!(video[0].1.min(audio[0].1), 0);
    for (track, timescale) in [(&video, 90_000), (&audio, 48_000)] {
        let steps = track.windows(2).map(|pair| (pair[1].1 - pair[0].1) * 1000 / timescale);
        assert!(steps.max().unwrap() < 100);
        assert!(track.windows(2).all(|pair| pair[0].1 < pair[1].1));
    }
    // Whatever it begins with, and as it grows, what is listed is the same.
    for count in 1..all.len() {
        let some = playlist(&all[..count], None, Tail::Growing, uri, "").unwrap();
        let more = playlist(&all[..=count], None, Tail::Growing, uri, "").unwrap();
        assert!(more.starts_with(&some));
    }
}

#[test]
fn a_playlist_lists_every_byte_once() {
    let root = Folder::new();
    record(&root.0, H264_AAC, 20, |config| config.record.piece = Duration::from_secs(9));
    let pieces: Vec<Piece> = pieces(&root.0).into_iter().map(|(piece, _)| piece).collect();
    assert_eq!(pieces.len(), 3);
    let uri = |piece: &Piece| piece.name.media_file();
    let text = playlist(&pieces, None, Tail::Ended, uri, "token=1").unwrap();
    assert!(text.ends_with("#EXT-X-ENDLIST\n") && text.contains("PLAYLIST-TYPE:VOD"));
    // One recording: no seam, one beginning.
    assert_eq!(text.matches("#EXT-X-DISCONTINUITY\n").count(), 0);
    assert_eq!(text.matches("#EXT-X-PROGRAM-DATE-TIME:").count(), 1);
    let (file, length) = (pieces[0].name.media_file(), pieces[0].init.len());
    let map = format!("#EXT-X-MAP:URI=\"{file}?token=1\",BYTERANGE=\"{length}@0\"\n");
    assert_eq!((text.matches("#EXT-X-MAP").count(), text.matches(&map).count()), (1, 1), "{text}");
    let listed = listed(&text);
    for piece in &pieces {
        let name = piece.name.media_file();
        let of_piece = listed.iter().filter(|(file, _, _)| file.starts_with(&name));
        let mut end = piece.init.len() as u64;
        for (_, offset, length) in of_piece {
            assert_eq!(*offset, end);
            end += length;
        }
        assert_eq!(end, piece.media_bytes());
    }
    // A window takes the segments that touch it.
    let first = &pieces[0];
    let from = first.unix_ms() + 5_000;
    let window = from..from + 1_000;
    let part = playlist(&pieces, Some(window), Tail::Ended, uri, "").unwrap();
    assert_eq!(part.matches("#EXTINF").count(), 1, "{part}");
    let nothing = playlist(&pieces, Some(0..1), Tail::Ended, uri, "");
    assert_eq!(nothing, None);
}

#[test]
fn the_segment_in_the_making_is_left_out_of_a_playlist_that_grows() {
    let root = Folder::new();
    record(&root.0, H264_AAC, 12, |_| {});
    let (mut piece, _) = pieces(&root.0).remove(0);
    let uri = |piece: &Piece| piece.name.media_file();
    let segments = piece.segments();
    let whole = playlist(&[piece.clone()], None, Tail::Growing, uri, "").unwrap();
    assert!(!whole.contains("ENDLIST") && whole.contains("PLAYLIST-TYPE:EVENT"));
    assert_eq!(whole.matches("#EXTINF").count(), segments.len());
    piece.is_open = true;
    let open = playlist(&[piece.clone()], None, Tail::Growing, uri, "").unwrap();
    assert_eq!(open.matches("#EXTINF").count(), segments.len() - 1);
    assert!(whole.starts_with(&open), "what was listed stays");
    // Cut anywhere, the segments but the last are the same.
    for count in 1..piece.index.pairs.len() {
        let mut shorter = piece.clone();
        shorter.index.pairs.truncate(count);
        let mut some = shorter.segments();
        some.pop();
        assert_eq!(some[..], segments[..some.len()]);
    }
}

#[test]
fn track_segments_add_up_to_the_tracks() {
    let root = Folder::new();
    record(&root.0, H264_AAC, 12, |_| {});
    let (piece, file) = pieces(&root.0).remove(0);
    let media = bytes_of(&file, piece.media_bytes());
    let whole = samples(&media);
    for (track, expected) in [TrackKind::Video, TrackKind::Audio].into_iter().zip(whole) {
        let mut gathered = Vec::new();
        let mut number = 0;
        while let Some(spans) = piece.track_segment(number, track) {
            for span in spans {
                let range = span.offset as usize..(span.offset + span.bytes) as usize;
                gathered.extend_from_slice(&media[range]);
            }
            number += 1;
        }
        assert_eq!(number, piece.segments().len());
        let mut read = samples(&gathered);
        let read = std::mem::take(&mut read[track.id() as usize - 1]);
        assert!(read == expected, "{track:?}");
    }
    let mpd = manifest(&[piece], None, |_| "f".to_owned(), "t=1").unwrap();
    assert_eq!(mpd.matches("<Period ").count(), 1, "{mpd}");
    assert!(mpd.contains("media=\"f/video/$Number$.m4s?t=1\""), "{mpd}");
    assert!(mpd.contains("initialization=\"f/audio/init.mp4?t=1\""), "{mpd}");
}

/// A joined file as it is sent.
fn sent(joined: &Joined) -> Vec<u8> {
    let mut out = joined.init.to_vec();
    for part in &joined.parts {
        let (file, patches) = part.open().unwrap();
        let mut bytes = vec![0; part.span.bytes as usize];
        file.read_exact_at(&mut bytes, part.span.offset).unwrap();
        for patch in &patches {
            patch.apply(&mut bytes, part.span.offset);
        }
        out.extend(bytes);
    }
    out
}

#[test]
fn joined_pieces_are_one_file_on_one_timeline() {
    let root = Folder::new();
    record(&root.0, H264_AAC, 12, |config| config.record.piece = Duration::from_secs(3));
    let library = Library::new(&root.0);
    let all: Vec<Piece> = pieces(&root.0).into_iter().map(|(piece, _)| piece).collect();
    assert_eq!(all.len(), 5);
    let joined = join(&library, &all, &(0..u64::MAX)).unwrap();
    let [video, audio] = samples(&sent(&joined));
    assert_eq!((video.len(), audio.len()), (12 * 25, 12 * 48));
    let clip = clip(H264_AAC);
    assert!(video.iter().map(|s| &s.0).eq(clip.payloads(true, 12).iter()));
    assert!(audio.iter().map(|s| &s.0).eq(clip.payloads(false, 12).iter()));
    // The times of the stream, but for its beginning.
    let expected = (0..12i64).flat_map(|round| {
        let times = clip.frames.iter().filter(|frame| frame.kind.is_video());
        times.map(move |frame| (frame.dts.to_millis() + round * ROUND_MS) as u64 * 90)
    });
    let expected: Vec<u64> = expected.collect();
    let apart = expected[0].abs_diff(video[0].1);
    for (sample, expected) in video.iter().zip(&expected) {
        assert_eq!(sample.1.abs_diff(*expected), apart);
    }
    assert!(audio.windows(2).all(|pair| pair[0].1 < pair[1].1));

    // A window in the middle, over two pieces: from a keyframe, at time 0.
    let from = all[1].unix_ms() + 1_500;
    let joined = join(&library, &all, &(from..from + 3_000)).unwrap();
    assert_eq!(joined.parts.len(), 2);
    let [video, audio] = samples(&sent(&joined));
    assert!(video[0].2 && video[0].1.min(audio[0].1 * 90_000 / 48_000) < 3_000);
    let seconds = (video.last().unwrap().1 - video[0].1) as f64 / 90_000.0;
    assert!((2.9..6.0).contains(&seconds), "{seconds}");
}

#[test]
fn sessions_are_joined_end_to_end() {
    let root = Folder::new();
    let config = config(&root.0);
    on_executor(move || async move {
        let hub = Hub::new();
        let start = clock::now();
        for session in 0..2 {
            let mut recorder = hub.record(&key(), &config).unwrap();
            clip(H264_AAC).play(&mut recorder, 0..3, start + Duration::from_secs(session * 60));
        }
        hub.finish(clock::now() + Duration::from_secs(10)).await;
    });
    let all: Vec<Piece> = pieces(&root.0).into_iter().map(|(piece, _)| piece).collect();
    let joined = join(&Library::new(&root.0), &all, &(0..u64::MAX)).unwrap();
    let [video, audio] = samples(&sent(&joined));
    assert_eq!((video.len(), audio.len()), (2 * 3 * 25, 2 * 3 * 48));
    let step = |track: &Samples, scale: u64| {
        let steps = track.windows(2).map(|pair| pair[1].1 - pair[0].1);
        steps.max().unwrap() * 1000 / scale
    };
    assert!(step(&video, 90_000) < 200 && step(&audio, 48_000) < 200);
}

#[test]
fn everything_is_listed_and_found() {
    let root = Folder::new();
    record(&root.0, H264_AAC, 9, |config| config.record.piece = Duration::from_secs(3));
    let library = Library::new(&root.0);
    assert_eq!(library.streams("").unwrap(), ["x"]);
    assert_eq!(library.streams("other.example").unwrap(), [""; 0]);
    let all: Vec<Piece> = pieces(&root.0).into_iter().map(|(piece, _)| piece).collect();
    assert_eq!(all.len(), 4);
    let (begin, end) = (all[0].unix_ms(), all[3].end_unix_ms());
    let found = |window: std::ops::Range<u64>| {
        library.range(&place(), &window).map_or(0, |pieces| pieces.len())
    };
    assert_eq!(found(begin..end), 4);
    assert_eq!(found(begin..begin + 1), 1);
    assert_eq!(found(end - 1..end + 3_600_000), 1);
    assert_eq!(found(end..end + 3_600_000), 0);
    assert_eq!(found(0..begin), 0);
    let other = Place::find("", "y").unwrap();
    assert!(matches!(library.days(&other), Err(LoadError::NotFound)));
    assert!(matches!(library.range(&other, &(0..end)), Err(LoadError::NotFound)));
}
