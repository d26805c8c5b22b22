//! Times over days, tracks in step, reports and requests.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rtcp::goodbye::Goodbye;
use rtcp::packet::unmarshal;
use rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtcp::receiver_report::ReceiverReport;
use webrtc_util::marshal::Marshal;

use super::{CAPTURES, LIMITS, Received, deliver, packets_of, pair};
use crate::fuzzing::virtual_epoch;
use crate::media::{Frame, Timestamp, Tracks};
use crate::rtp::header::Header;
use crate::rtp::{PayloadFormat, Receiver, RtpError};

/// A keyframe and a frame of sound of a capture.
fn material() -> (Tracks, Frame, Frame) {
    let received = CAPTURES[0].received();
    let (video, audio) = (received.of(true)[0].clone(), received.of(false)[0].clone());
    let at_zero = |frame: Frame| Frame { dts: Timestamp::ZERO, composition_offset: 0, ..frame };
    (received.tracks[0].clone(), at_zero(video), at_zero(audio))
}

fn at(frame: &Frame, ms: i64) -> Frame {
    Frame { dts: Timestamp::from_millis(ms), ..frame.clone() }
}

#[test]
fn days_pass_and_both_tracks_stay_in_step() {
    let (tracks, video, audio) = material();
    let (mut sender, mut receiver) = pair(&tracks, 9, 1400);
    let (epoch, mut received) = (virtual_epoch(), Received::default());
    // 2^31 milliseconds are 24.8 days; 90 kHz wraps every 13 hours on the way, sequence numbers too.
    let steps = 26 * 8640;
    let (mut compared, mut came) = (0, 0);
    for step in 0..steps {
        let ms = step * 10_000;
        let now = epoch + Duration::from_millis(ms as u64);
        for (channel, packet) in packets_of(&mut sender, &at(&video, ms))
            .into_iter()
            .chain(packets_of(&mut sender, &at(&audio, ms + 20)))
        {
            deliver(&mut receiver, now, channel, &packet);
        }
        received.take(&mut receiver);
        if step % 8640 == 0
            && let [.., picture, sound] = &received.frames[..]
        {
            let apart = sound.pts() - picture.pts();
            assert!((apart - 20_000_000).abs() < 1_000_000, "day {}: {apart}", step / 8640);
            compared += 1;
        }
        if received.frames.len() > 4 {
            let video = received.of(true);
            let apart = video[video.len() - 1].pts() - video[0].pts();
            assert_eq!(apart, (video.len() as i64 - 1) * 10_000_000_000);
            came += received.frames.drain(..2).count();
        }
        while receiver.poll_rtcp().is_some() {}
    }
    assert_eq!(receiver.statistics(0).lost + receiver.statistics(1).lost, 0);
    // A picture and a sound at each step, but for the last, which waits for the next.
    assert!(compared >= 25, "compared on {compared} days");
    assert!(came as i64 + 6 >= 2 * steps, "{came} frames");
}

/// Sound that arrives `late_ms` after its time: how far it is off the picture at first and at the
/// end, when its sender reports begin after `report_after_ms`.
fn apart(late_ms: i64, report_after_ms: i64) -> (i64, i64) {
    let (tracks, video, audio) = material();
    let (mut sender, mut receiver) = pair(&tracks, 11, 1400);
    let (epoch, mut received) = (virtual_epoch(), Received::default());
    let mut events = Vec::new();
    for ms in (0..12_000).step_by(20) {
        let frame = if ms % 40 == 0 { &video } else { &audio };
        let late = if ms % 40 == 0 { 0 } else { late_ms };
        events.push((ms + late, ms, frame));
    }
    events.sort_by_key(|(arrival, ..)| *arrival);
    let mut last = [Timestamp::from_nanos(i64::MIN); 2];
    for (arrival, ms, frame) in events {
        let now = epoch + Duration::from_millis(arrival as u64);
        for (channel, packet) in packets_of(&mut sender, &at(frame, ms)) {
            if channel.is_multiple_of(2) || ms >= report_after_ms {
                deliver(&mut receiver, now, channel, &packet);
            }
        }
        received.take(&mut receiver);
    }
    for frame in &received.frames {
        let last = &mut last[usize::from(frame.kind.is_video())];
        assert!(frame.dts > *last, "no time runs backwards");
        *last = frame.dts;
    }
    let off = |video: &Frame, audio: &Frame| {
        Timestamp::from_nanos(audio.pts() - video.pts()).to_millis() - 20
    };
    let (video, audio) = (received.of(true), received.of(false));
    (off(&video[0], &audio[0]), off(&video[video.len() - 1], &audio[audio.len() - 1]))
}

#[test]
fn tracks_are_lined_up_by_arrival_then_by_reports() {
    // With a report in front of its first packet a track is right from the start.
    assert_eq!(apart(0, 0), (0, 0));
    assert_eq!(apart(300, 0), (0, 0));
    // Without one as it arrived, then bit by bit.
    let (first, last) = apart(300, 2000);
    assert!(first == 300 && last.abs() <= 10, "{first} {last}");
    let (first, last) = apart(2000, 3000);
    assert!(first == 2000 && last.abs() <= 10, "{first} {last}");
    let (first, last) = apart(300, 100_000);
    assert_eq!((first, last), (300, 300));
}

fn only_video() -> (Tracks, Frame) {
    let (tracks, video, _) = material();
    (Tracks { audio: None, ..tracks }, video)
}

#[test]
fn another_source_goes_on_with_the_timeline() {
    let (tracks, video) = only_video();
    let (mut first, mut receiver) = pair(&tracks, 1, 1400);
    let (mut second, _) = pair(&tracks, 2, 1400);
    let (epoch, mut received) = (virtual_epoch(), Received::default());
    for step in 0..10u64 {
        let now = epoch + Duration::from_millis(step * 40);
        let sender = if step < 5 { &mut first } else { &mut second };
        // The second one counts from elsewhere.
        let ms = if step < 5 { step as i64 * 40 } else { 1_000_000 + step as i64 * 40 };
        for (channel, packet) in packets_of(sender, &at(&video, ms)) {
            deliver(&mut receiver, now, channel, &packet);
        }
        received.take(&mut receiver);
    }
    let times: Vec<i64> = received.frames.iter().map(|frame| frame.pts().to_millis()).collect();
    assert_eq!(times, [1000, 1040, 1080, 1120, 1160, 1200, 1240, 1280, 1320, 1360]);
    // One packet of somebody else changes nothing.
    let header =
        Header { marker: true, payload_type: 96, sequence_number: 1, timestamp: 1, ssrc: 3 };
    let packet = Bytes::from([&header.to_bytes()[..], &[0x65, 0x80, 1]].concat());
    receiver.handle_rtp(epoch, 0, packet).unwrap();
    assert_eq!(receiver.poll_event(), None);
    assert_eq!(receiver.statistics(0).lost, 0);
}

#[test]
fn the_end_of_the_own_source_ends_the_track() {
    let (tracks, video) = only_video();
    let (mut sender, mut receiver) = pair(&tracks, 1, 1400);
    let now = virtual_epoch();
    for (channel, packet) in packets_of(&mut sender, &video) {
        deliver(&mut receiver, now, channel, &packet);
    }
    let mut received = Received::default();
    let goodbye = |ssrc| Goodbye { sources: vec![ssrc], reason: Bytes::new() }.marshal().unwrap();
    receiver.handle_rtcp(now, 0, &goodbye(sender.ssrc(true) ^ 1)).unwrap();
    received.take(&mut receiver);
    assert_eq!((received.frames.len(), received.ended.len()), (1, 0));
    receiver.handle_rtcp(now, 0, &goodbye(sender.ssrc(true))).unwrap();
    received.take(&mut receiver);
    assert_eq!(received.ended, [0]);
}

#[test]
fn a_keyframe_that_nobody_can_be_asked_for_sets_no_deadline() {
    let (tracks, video) = only_video();
    let (mut sender, mut receiver) = pair(&tracks, 1, 1400);
    let mut now = virtual_epoch();
    for (channel, packet) in packets_of(&mut sender, &video) {
        deliver(&mut receiver, now, channel, &packet);
    }
    receiver.request_keyframe(now);
    let goodbye = Goodbye { sources: vec![sender.ssrc(true)], reason: Bytes::new() };
    receiver.handle_rtcp(now, 0, &goodbye.marshal().unwrap()).unwrap();
    receiver.request_keyframe(now);
    assert_eq!(count::<FullIntraRequest>(&said(&mut receiver)), 1);
    for _ in 0..10 {
        now = receiver.poll_timeout().unwrap();
        receiver.handle_timeout(now);
        assert!(receiver.poll_timeout().unwrap() > now, "the deadline stands still");
    }
    // The source is back, and is asked.
    for (channel, packet) in packets_of(&mut sender, &at(&video, 60_000)) {
        deliver(&mut receiver, now, channel, &packet);
    }
    assert_eq!(count::<FullIntraRequest>(&said(&mut receiver)), 1);
}

/// The parts of the compound packets that wait.
fn said(receiver: &mut Receiver) -> Vec<Box<dyn rtcp::packet::Packet + Send + Sync>> {
    std::iter::from_fn(|| receiver.poll_rtcp())
        .flat_map(|(_, mut packet)| unmarshal(&mut packet).unwrap())
        .collect()
}

fn count<T: 'static>(said: &[Box<dyn rtcp::packet::Packet + Send + Sync>]) -> usize {
    said.iter().filter(|packet| packet.as_any().is::<T>()).count()
}

#[test]
fn keyframes_are_asked_for_after_a_loss_and_not_too_often() {
    let (tracks, video) = only_video();
    let inter = Frame { composition_offset: 0, ..CAPTURES[0].received().of(true)[1].clone() };
    let (mut sender, mut receiver) = pair(&tracks, 1, 600);
    let epoch = virtual_epoch();
    let send = |receiver: &mut Receiver, sender: &mut _, ms: u64, frame: &Frame, skip| {
        let frame = at(frame, ms as i64);
        let packets = packets_of(sender, &frame);
        let media = packets.into_iter().filter(|(channel, _)| channel.is_multiple_of(2));
        for (channel, packet) in media.skip(skip) {
            deliver(receiver, epoch + Duration::from_millis(ms), channel, &packet);
        }
    };
    send(&mut receiver, &mut sender, 0, &video, 0);
    assert_eq!(said(&mut receiver).len(), 0);
    // The first packet of a picture is lost, which shows when the rest was waited for.
    for step in 1..40u64 {
        send(&mut receiver, &mut sender, step * 40, &inter, usize::from(step == 1));
        receiver.handle_timeout(epoch + Duration::from_millis(step * 40 + 10));
    }
    let all = said(&mut receiver);
    // At once and, as no keyframe came, once more after a second.
    assert_eq!(count::<PictureLossIndication>(&all), 2);
    assert_eq!(count::<FullIntraRequest>(&all), 0);
    let now = epoch + Duration::from_secs(3);
    for _ in 0..100 {
        receiver.request_keyframe(now);
    }
    let all = said(&mut receiver);
    let requests = (count::<PictureLossIndication>(&all), count::<FullIntraRequest>(&all));
    assert_eq!(requests, (1, 1));
    assert!(receiver.poll_timeout().is_some_and(|due| due <= now + Duration::from_secs(1)));
    receiver.handle_timeout(now + Duration::from_secs(1));
    assert_eq!(count::<FullIntraRequest>(&said(&mut receiver)), 1);
}

#[test]
fn reports_say_what_arrived_and_when_the_last_report_did() {
    let (tracks, video) = only_video();
    let (mut sender, mut receiver) = pair(&tracks, 4, 1400);
    let (epoch, mut now) = (virtual_epoch(), virtual_epoch());
    let mut reported: Option<(Instant, u32)> = None;
    let mut reports = 0;
    for step in 0..500u64 {
        now = epoch + Duration::from_millis(step * 40);
        for (channel, packet) in packets_of(&mut sender, &at(&video, step as i64 * 40)) {
            if channel == 1 {
                let middle = u32::from_be_bytes(packet[10..14].try_into().unwrap());
                reported = Some((now, middle));
            }
            deliver(&mut receiver, now, channel, &packet);
        }
        receiver.handle_timeout(now);
        for packet in said(&mut receiver) {
            let Some(report) = packet.as_any().downcast_ref::<ReceiverReport>() else { continue };
            let block = &report.reports[0];
            let (then, middle) = reported.unwrap();
            let delay = u64::from(block.delay) * 1000 / 65_536;
            assert_eq!((block.ssrc, block.last_sender_report), (sender.ssrc(true), middle));
            assert!(delay.abs_diff((now - then).as_millis() as u64) <= 1, "{delay}");
            assert_eq!((block.fraction_lost, block.total_lost, block.jitter), (0, 0, 0));
            reports += 1;
        }
    }
    // Every 5 s on average, the first after half of that.
    assert!((3..=8).contains(&reports), "{reports}");
    assert!(receiver.poll_timeout().is_some_and(|due| due > now));
}

#[test]
fn what_is_no_packet_of_the_track_is_refused_or_counted() {
    let format = PayloadFormat::from_static(0).unwrap();
    let now = virtual_epoch();
    let mut receiver = Receiver::new(now, 1, LIMITS, vec![format]);
    assert_eq!(receiver.handle_rtp(now, 1, Bytes::new()), Err(RtpError::UnknownTrack));
    assert_eq!(receiver.handle_rtp(now, 0, Bytes::new()), Err(RtpError::Truncated));
    let header =
        Header { marker: false, payload_type: 8, sequence_number: 1, timestamp: 1, ssrc: 3 };
    let packet = Bytes::from([&header.to_bytes()[..], &[1, 2]].concat());
    assert_eq!(receiver.handle_rtp(now, 0, packet), Ok(()));
    assert_eq!(receiver.statistics(0).wrong_payload_type, 1);
    assert_eq!(receiver.poll_event(), None);
    let nack = [0x81, 205, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0xff, 0xff];
    assert_eq!(receiver.handle_rtcp(now, 0, &nack), Ok(()));
    assert_eq!(receiver.handle_rtcp(now, 0, &nack[..7]), Err(RtpError::Rtcp));
}
