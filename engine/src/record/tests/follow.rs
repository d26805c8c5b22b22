//! Recordings that are followed: over pieces, while they grow, over gaps, and from too early.

use super::*;

/// The next stretches, as far as they have been written.
fn rest(follower: &mut Follower) -> Vec<Stretch> {
    std::iter::from_fn(|| follower.read_on().unwrap()).collect()
}

fn payloads(stretches: &[Stretch], video: bool) -> Vec<Bytes> {
    let frames = stretches.iter().flat_map(|stretch| &stretch.frames);
    let of_track = frames.filter(|frame| frame.kind.is_video() == video);
    of_track.map(|frame| frame.payload.clone()).collect()
}

/// Where the recording in a folder begins, Unix milliseconds.
fn begin(root: &Path) -> u64 {
    pieces(root)[0].0.unix_ms()
}

#[test]
fn pieces_are_followed_without_a_seam_on_the_publisher_s_timeline() {
    let root = Folder::new();
    record(&root.0, H264_AAC, 12, |config| config.record.piece = Duration::from_secs(3));
    let (library, begin) = (Library::new(&root.0), begin(&root.0));
    let clip = clip(H264_AAC);
    let mut follower = Follower::open(&library, &place(), begin, begin + 13_000).unwrap();
    let all = rest(&mut follower);
    assert!(payloads(&all, true) == clip.payloads(true, 12), "video");
    assert!(payloads(&all, false) == clip.payloads(false, 12), "sound");
    assert!(all.iter().all(|stretch| !stretch.broken));
    let first = all[0].frames.iter().find(|frame| frame.kind.is_video()).unwrap();
    assert_eq!(
        first.dts.to_millis(),
        clip.frames.iter().find(|f| f.kind.is_video()).unwrap().dts.to_millis()
    );
    let frames = all.iter().flat_map(|stretch| &stretch.frames);
    let pictures: Vec<_> = frames.filter(|frame| frame.kind.is_video()).collect();
    assert!(pictures.windows(2).all(|pair| pair[0].dts < pair[1].dts));
    // The clock of each stretch is that of its media.
    for stretch in &all {
        let media = (stretch.start - all[0].start) / 1_000_000;
        let wall = stretch.unix_ms - all[0].unix_ms;
        assert!(wall.abs_diff(media.unsigned_abs()) <= 50, "{wall} {media}");
    }

    // From the middle: at the keyframe at or before that moment.
    for after_ms in [500, 3200, 6500, 9900] {
        let from = begin + after_ms;
        let mut follower = Follower::open(&library, &place(), from, begin + 13_000).unwrap();
        let stretch = follower.read_on().unwrap().unwrap();
        assert_eq!(
            stretch.frames.iter().find(|f| f.kind.is_video()).unwrap().kind,
            protocols::media::FrameKind::Keyframe
        );
        assert!(stretch.unix_ms <= from && from - stretch.unix_ms < 1100, "{after_ms}");
        let left = all.iter().filter(|one| one.unix_ms >= stretch.unix_ms).count();
        assert_eq!(rest(&mut follower).len() + 1, left);
    }
}

#[test]
fn what_is_being_written_comes_when_it_is_whole() {
    let root = Folder::new();
    let (config, path) = (config(&root.0), root.0.clone());
    on_executor(move || async move {
        let hub = Hub::new();
        let clip = clip(H264_AAC);
        let start = clock::now();
        let mut recorder = hub.record(&key(), &config).unwrap();
        clip.play(&mut recorder, 0..3, start);
        while hub.counts().fragments < 4 {
            glommio::timer::Timer::new(Duration::from_millis(5)).await;
        }
        let (library, now) = (Library::new(&path), clock::unix_millis());
        let mut follower = Follower::open(&library, &place(), now, now).unwrap();
        let mut all = rest(&mut follower);
        let before = payloads(&all, true).len();
        assert!((25..75).contains(&before), "{before}");
        assert!(follower.read_on().unwrap().is_none(), "the rest is in the making");
        clip.play(&mut recorder, 3..6, start);
        recorder.take(&MediaItem::Offline, start);
        drop(recorder);
        hub.finish(clock::now() + Duration::from_secs(10)).await;
        all.extend(rest(&mut follower));
        assert!(payloads(&all, true) == clip.payloads(true, 6));
        assert!(payloads(&all, false) == clip.payloads(false, 6));
        // A publisher that returns is followed too, and there is a break.
        let mut recorder = hub.record(&key(), &config).unwrap();
        clip.play(&mut recorder, 0..2, start + Duration::from_secs(20));
        drop(recorder);
        hub.finish(clock::now() + Duration::from_secs(10)).await;
        let returned = rest(&mut follower);
        assert!(payloads(&returned, true) == clip.payloads(true, 2));
        let broken: Vec<_> = returned.iter().map(|stretch| stretch.broken).collect();
        assert!(broken[0] && broken.iter().skip(1).all(|broken| !broken), "{broken:?}");
    });
}

#[test]
fn a_moment_before_everything_or_after_it_is_said_to_be() {
    let root = Folder::new();
    let library = Library::new(&root.0);
    let now = clock::unix_millis();
    let open = |from| Follower::open(&library, &place(), from, now + 20_000).err();
    assert_eq!(open(now), Some(Unreached::Nothing), "no recordings at all");
    record(&root.0, H264_AAC, 3, |_| {});
    let begin = begin(&root.0);
    assert_eq!(open(begin - 1), Some(Unreached::Since(begin)));
    assert_eq!(open(begin), None);
    assert_eq!(open(begin + 3000), None);
    assert_eq!(open(begin + 8000), Some(Unreached::Nothing));
}
