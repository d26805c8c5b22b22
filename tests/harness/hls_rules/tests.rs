//! The judge judged: playlists that keep the rules, and one broken rule at a time.

use super::{Finding, Severity, Snapshot, check, syntax::date_time_ms, violations};

/// A live playlist with parts: segments 10 to 15, two parts of 16.
const GOOD: &str = "#EXTM3U
#EXT-X-VERSION:9
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-TARGETDURATION:2
#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=12.00000,PART-HOLD-BACK=3.00000,HOLD-BACK=6.00000
#EXT-X-PART-INF:PART-TARGET=1.00000
#EXT-X-MEDIA-SEQUENCE:10
#EXT-X-DISCONTINUITY-SEQUENCE:3
#EXT-X-MAP:URI=\"init.mp4\"
#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:00.000Z
#EXTINF:2.00000,
10.m4s
#EXTINF:2.00000,
11.m4s
#EXT-X-DISCONTINUITY
#EXT-X-PROGRAM-DATE-TIME:2026-01-01T01:00:00.000Z
#EXTINF:2.00000,
12.m4s
#EXTINF:2.00000,
13.m4s
#EXTINF:2.00000,
14.m4s
#EXT-X-PROGRAM-DATE-TIME:2026-01-01T01:00:06.000+00:00
#EXT-X-PART:DURATION=1.00000,URI=\"15.0.m4s\",INDEPENDENT=YES
#EXT-X-PART:DURATION=0.90000,URI=\"15.1.m4s\"
#EXTINF:1.90000,
15.m4s
#EXT-X-PART:DURATION=1.00000,URI=\"16.0.m4s\",INDEPENDENT=YES
#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"16.1.m4s\"
#EXT-X-RENDITION-REPORT:URI=\"../audio/index.m3u8\",LAST-MSN=16,LAST-PART=0
";

/// What comes after [`GOOD`]: 10 has left, 16 is whole, 17 has begun.
fn good_next() -> String {
    let text = edited(GOOD, "SEQUENCE:10", "SEQUENCE:11");
    let text = edited(&text, "#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:00.000Z\n", "");
    let text = edited(&text, "#EXTINF:2.00000,\n10.m4s\n", "");
    let text = edited(
        &text,
        "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"16.1.m4s\"",
        "#EXT-X-PART:DURATION=1.00000,URI=\"16.1.m4s\"
#EXTINF:2.00000,
16.m4s
#EXT-X-PART:DURATION=1.00000,URI=\"17.0.m4s\",INDEPENDENT=YES
#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"17.1.m4s\"",
    );
    edited(&text, "LAST-MSN=16", "LAST-MSN=17")
}

fn edited(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from:?} is not there to be replaced");
    text.replacen(from, to, 1)
}

fn findings(texts: &[&str]) -> Vec<Finding> {
    let at = |(index, text)| Snapshot { at_ms: index as u64 * 1000, text };
    check(&texts.iter().copied().enumerate().map(at).collect::<Vec<_>>())
}

/// Exactly one finding, in the last playlist, of this weight and clause.
fn only(texts: &[&str], severity: Severity, clause: &str) {
    let findings = findings(texts);
    let [finding] = findings.as_slice() else { panic!("{clause}: {findings:#?}") };
    let is = (finding.snapshot, finding.severity, finding.clause);
    assert_eq!(is, (texts.len() - 1, severity, clause), "{}", finding.detail);
}

/// A finding of this weight and clause in the last playlist; one broken rule may break others.
fn has(texts: &[&str], severity: Severity, clause: &str) {
    let findings = findings(texts);
    let expected = (texts.len() - 1, severity, clause);
    let is = |finding: &Finding| (finding.snapshot, finding.severity, finding.clause) == expected;
    assert!(findings.iter().any(is), "{clause}: {findings:#?}");
}

/// Among the findings is this one.
fn among(texts: &[&str], detail: &str) {
    let findings = findings(texts);
    assert!(findings.iter().any(|finding| finding.detail.contains(detail)), "{findings:#?}");
}

/// [`GOOD`] with one edit breaks one rule.
fn breaks(from: &str, to: &str, clause: &str) {
    has(&[&edited(GOOD, from, to)], Severity::Violation, clause);
}

fn warns(from: &str, to: &str, clause: &str) {
    only(&[&edited(GOOD, from, to)], Severity::Warning, clause);
}

/// [`GOOD`], then [`good_next`] with one edit, breaks one rule.
fn breaks_next(from: &str, to: &str, clause: &str) {
    has(&[GOOD, &edited(&good_next(), from, to)], Severity::Violation, clause);
}

/// The delta update of [`good_next`] with so many segments skipped, of the segments 11 to 16.
fn delta(skipped: usize) -> String {
    let text = good_next();
    let names = ["11.m4s", "12.m4s", "13.m4s", "14.m4s", "15.m4s"];
    let cut = text.find("#EXT-X-MAP").expect("a map");
    let last = names[skipped - 1];
    let rest = text.find(last).expect("the segment") + last.len() + 1;
    format!("{}#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}\n{}", &text[..cut], &text[rest..])
}

#[test]
fn a_good_playlist_and_its_successor_pass() {
    assert_eq!(findings(&[GOOD]), []);
    assert_eq!(findings(&[GOOD, &good_next()]), []);
    let vod = "#EXTM3U\r\n#EXT-X-TARGETDURATION:3\r\n#EXTINF:3,\r\na.ts\r\n#EXT-X-ENDLIST\r\n";
    assert_eq!(findings(&[vod, vod]), []);
}

#[test]
fn grammar() {
    breaks("#EXTM3U\n", "", "4.4.1.1");
    breaks("YES,CAN", "YES, CAN", "4.2");
    breaks("CAN-BLOCK-RELOAD=YES", "CAN-BLOCK-RELOAD=yes", "4.2");
    breaks("URI=\"15.1.m4s\"", "URI=15.1.m4s", "4.2");
    breaks("PART-TARGET=1.00000", "PART-TARGET=+1.00000", "4.2");
    breaks("HOLD-BACK=6.00000\n", "HOLD-BACK=6.00000,\n", "4.2");
    breaks("LAST-PART=0", "LAST-PART=0,LAST-PART=0", "4.2");
    breaks("#EXT-X-TARGETDURATION:2\n", "#EXT-X-TARGETDURATION:2\n#EXT-X-ENDLIST:\n", "4.4");
    breaks("#EXTINF:1.90000,", "#EXTINF:1.90000", "4.4.4.1");
    breaks("#EXTINF:2.00000,\n13.m4s", "13.m4s", "4.4.4.1");
    breaks("12.m4s", "12 .m4s", "4.1");
    breaks("#EXT-X-VERSION:9", "#EXT-X-VERSION:9\n#EXT-X-VERSION:9", "4.4.3");
    breaks("#EXT-X-VERSION:9", "#EXT-X-STREAM-INF:BANDWIDTH=1\n#EXT-X-VERSION:9", "4.4.6");
    breaks("2026-01-01T01:00:00.000Z", "2026-01-01 01:00:00", "4.4.4.6");
    warns("INDEPENDENT=YES", "INDEPENDENT=YES,NEW=1", "4.2");
}

#[test]
fn order_of_tags() {
    let sequence = "#EXT-X-MEDIA-SEQUENCE:10\n";
    let late = edited(GOOD, sequence, "");
    let late = edited(&late, "11.m4s\n", &format!("11.m4s\n{sequence}"));
    only(&[&late], Severity::Violation, "4.4.3");
    breaks(
        "INDEPENDENT=YES\n#EXT-X-PART:DURATION=0.9",
        "INDEPENDENT=YES\n#EXT-X-DISCONTINUITY\n#EXT-X-PART:DURATION=0.9",
        "4.4.4.9",
    );
}

#[test]
fn durations_and_targets() {
    breaks("#EXTINF:2.00000,\n14", "#EXTINF:2.50000,\n14", "4.4.3.1");
    breaks("#EXT-X-TARGETDURATION:2\n", "", "4.4.3.1");
    breaks(
        "#EXT-X-PART:DURATION=1.00000,URI=\"16",
        "#EXT-X-PART:DURATION=1.00001,URI=\"16",
        "4.4.4.9",
    );
    let short =
        edited(GOOD, "1.00000,URI=\"15.0.m4s\",INDEPENDENT=YES", "0.84000,URI=\"15.0.m4s\"");
    let short = edited(&short, "1.90000", "1.74000");
    only(&[&short], Severity::Violation, "4.4.4.9");
    warns("#EXTINF:1.90000,", "#EXTINF:1.95000,", "4.4.4.9");
    // The first part may be short because a decoder can start at it.
    let short = edited(GOOD, "1.00000,URI=\"15.0", "0.50000,URI=\"15.0");
    assert_eq!(findings(&[&edited(&short, "1.90000", "1.40000")]), []);
}

#[test]
fn announcements() {
    breaks("PART-HOLD-BACK=3.00000", "PART-HOLD-BACK=1.99999", "4.4.3.8");
    warns("PART-HOLD-BACK=3.00000", "PART-HOLD-BACK=2.99999", "4.4.3.8");
    breaks("PART-HOLD-BACK=3.00000,", "", "4.4.3.8");
    breaks(",HOLD-BACK=6.00000", ",HOLD-BACK=5.99999", "4.4.3.8");
    breaks("CAN-SKIP-UNTIL=12.00000", "CAN-SKIP-UNTIL=11.99999", "4.4.3.8");
    breaks("#EXT-X-PART-INF:PART-TARGET=1.00000\n", "", "4.4.3.7");
    breaks("VERSION:9", "VERSION:5", "8");
    breaks(
        "#EXT-X-MAP:URI=\"init.mp4\"\n#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:00.000Z\n#EXTINF:2.00000,\n10.m4s\n",
        "#EXTINF:2.00000,\n10.m4s\n#EXT-X-MAP:URI=\"init.mp4\"\n",
        "4.4.4.5",
    );
    breaks("01:00:06.000+00:00", "01:00:06.200+00:00", "4.4.4.6");
    breaks("#EXT-X-RENDITION", "#EXT-X-ENDLIST\n#EXT-X-RENDITION", "4.4.5.3");
    breaks(
        "#EXT-X-RENDITION",
        "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"x.m4s\"\n#EXT-X-RENDITION",
        "6.2.2",
    );
}

#[test]
fn old_parts_are_to_leave() {
    let parts = "#EXT-X-PART:DURATION=1.00000,URI=\"11.0.m4s\",INDEPENDENT=YES
#EXT-X-PART:DURATION=1.00000,URI=\"11.1.m4s\"\n#EXTINF:2.00000,\n11.m4s";
    warns("#EXTINF:2.00000,\n11.m4s", parts, "4.4.4.9");
}

#[test]
fn what_was_published_stays() {
    breaks_next("13.m4s", "13b.m4s", "6.2.1");
    breaks_next("#EXTINF:2.00000,\n14", "#EXTINF:2.10000,\n14", "6.2.1");
    among(&[GOOD, &edited(&good_next(), "SEQUENCE:11", "SEQUENCE:12")], "segment 12 changed");
    among(&[GOOD, &edited(&good_next(), "SEQUENCE:11", "SEQUENCE:9")], "media sequence 9 after 10");
    breaks_next("URI=\"16.0.m4s\"", "URI=\"16.0b.m4s\"", "6.2.1");
    breaks_next("URI=\"15.0.m4s\"", "URI=\"15.0b.m4s\"", "6.2.1");
    breaks_next("TARGETDURATION:2\n", "TARGETDURATION:2\n#EXT-X-PLAYLIST-TYPE:EVENT\n", "6.2.1");
    among(&[&good_next(), GOOD], "segments left from the end");
}

#[test]
fn targets_never_change() {
    let slower = good_next().replace("TARGETDURATION:2", "TARGETDURATION:3");
    let slower = edited(&slower, "CAN-SKIP-UNTIL=12.00000,", "");
    let slower = edited(&slower, ",HOLD-BACK=6.00000", "");
    only(&[GOOD, &slower], Severity::Violation, "6.2.1");
    let hold_back = edited(GOOD, "PART-HOLD-BACK=3.00000", "PART-HOLD-BACK=3.30000");
    let next = edited(&good_next(), "PART-TARGET=1.00000", "PART-TARGET=1.10000");
    let next = edited(&next, "PART-HOLD-BACK=3.00000", "PART-HOLD-BACK=3.30000");
    only(&[&hold_back, &next], Severity::Violation, "4.4.3.7");
}

#[test]
fn the_discontinuity_sequence_counts_what_left() {
    breaks_next("DISCONTINUITY-SEQUENCE:3", "DISCONTINUITY-SEQUENCE:4", "6.2.2");
    // With 12, its discontinuity leaves.
    let start = good_next().find("#EXTINF:2.00000,\n11").expect("11");
    let end = good_next().find("12.m4s\n").expect("12") + "12.m4s\n".len();
    let mut text = good_next();
    text.replace_range(start..end, "");
    let text = edited(&text, "MEDIA-SEQUENCE:11", "MEDIA-SEQUENCE:13");
    only(&[GOOD, &text], Severity::Violation, "6.2.2");
    let text = edited(&text, "DISCONTINUITY-SEQUENCE:3", "DISCONTINUITY-SEQUENCE:4");
    assert_eq!(findings(&[GOOD, &text]), []);
}

#[test]
fn three_target_durations_are_kept() {
    let start = good_next().find("#EXT-X-DISCONTINUITY\n").expect("12");
    let end = good_next().find("14.m4s\n").expect("14") + "14.m4s\n".len();
    let mut text = good_next();
    text.replace_range(start..end, "");
    let text = edited(&text, "#EXTINF:2.00000,\n11.m4s\n", "");
    let text = edited(&text, "MEDIA-SEQUENCE:11", "MEDIA-SEQUENCE:15");
    let text = edited(&text, "DISCONTINUITY-SEQUENCE:3", "DISCONTINUITY-SEQUENCE:4");
    only(&[GOOD, &text], Severity::Violation, "6.2.2");
}

#[test]
fn a_hint_is_a_promise() {
    breaks_next("16.1.m4s", "16.1b.m4s", "4.4.5.3");
    let changed = edited(GOOD, "TYPE=PART,URI=\"16.1.m4s\"", "TYPE=PART,URI=\"16.x.m4s\"");
    only(&[GOOD, &changed], Severity::Warning, "4.4.5.3");
    // The segment ends with what it had: the hinted part begins the next one.
    let hinted = edited(GOOD, "URI=\"16.1.m4s\"", "URI=\"17.0.m4s\"");
    let ended = "#EXT-X-PART:DURATION=1.00000,URI=\"16.1.m4s\"\n#EXTINF:2.00000,";
    let early = edited(&good_next(), ended, "#EXTINF:1.00000,");
    assert_eq!(findings(&[&hinted, &early]), []);
}

#[test]
fn delta_updates_expand() {
    // 12 to 16 are shorter than the boundary by a tenth of a second and the open part is longer.
    only(&[GOOD, &delta(1)], Severity::Violation, "6.2.5.1");
    let longer = |text: &str| {
        let two = "#EXTINF:2.00000,\n13.m4s\n";
        edited(text, two, &format!("{two}#EXTINF:2.00000,\n13b.m4s\n"))
    };
    let (full, skipping) = (longer(GOOD), longer(&delta(1)));
    let shift = |text: &str| edited(text, "01:00:06.000", "01:00:08.000");
    assert_eq!(findings(&[&shift(&full), &shift(&skipping)]), []);
    only(&[&shift(&skipping)], Severity::Violation, "6.3.7");
    let unknown = edited(&skipping, "SEQUENCE:11", "SEQUENCE:9");
    let found = findings(&[&shift(&full), &shift(&unknown)]);
    assert!(found.iter().any(|finding| finding.clause == "6.3.7"), "{found:#?}");
}

#[test]
fn a_map_survives_a_delta_update_that_lacks_it() {
    let with_map =
        |text: &str| edited(text, "#EXT-X-SKIP", "#EXT-X-MAP:URI=\"init.mp4\"\n#EXT-X-SKIP");
    for next in [delta(1), with_map(&delta(1))] {
        let found = findings(&[GOOD, &next]);
        assert!(found.iter().all(|finding| finding.clause == "6.2.5.1"), "{found:#?}");
    }
    let other = edited(
        &delta(1),
        "#EXT-X-DISCONTINUITY\n",
        "#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"b.mp4\"\n",
    );
    let found = findings(&[GOOD, &other]);
    assert!(found.iter().any(|finding| finding.clause == "6.2.1"), "{found:#?}");
}

#[test]
fn a_live_playlist_moves_and_an_ended_one_does_not() {
    let snapshot = |at_ms, text| Snapshot { at_ms, text };
    let next = good_next();
    let seen_until =
        |at_ms| [snapshot(0, GOOD), snapshot(at_ms, GOOD), snapshot(9_000, next.as_str())];
    assert_eq!(violations(&seen_until(3_000)), [""; 0]);
    assert_eq!(violations(&seen_until(3_001)), ["playlist 2: nothing new for 3001 ms (6.2.1)"]);
    let hint = "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"16.1.m4s\"\n";
    let ended = edited(GOOD, hint, "#EXT-X-ENDLIST\n");
    let more = edited(
        &ended,
        "#EXT-X-PART:DURATION=1.00000,URI=\"16",
        "#EXTINF:2.00000,\n16.m4s\n#EXT-X-PART:DURATION=1.00000,URI=\"16",
    );
    let found = findings(&[&ended, &more]);
    assert!(found.iter().any(|finding| finding.clause == "4.4.3.4"), "{found:#?}");
}

#[test]
fn dates_are_read() {
    // Expected: `date -u -d TEXT +%s`.
    let seconds = |text| date_time_ms(text).map(|ms| (ms.div_euclid(1000), ms.rem_euclid(1000)));
    assert_eq!(seconds("2010-02-19T14:54:23.031+08:00"), Some((1_266_562_463, 31)));
    assert_eq!(seconds("2024-02-29T23:59:59Z"), Some((1_709_251_199, 0)));
    assert_eq!(seconds("1969-12-31T23:59:59.5Z"), Some((-1, 500)));
    for text in
        ["", "2024-02-29", "2024-13-01T00:00:00Z", "2024-02-29T23:59:59", "2024-02-29T23:59:5€"]
    {
        assert_eq!(date_time_ms(text), None, "{text}");
    }
}
