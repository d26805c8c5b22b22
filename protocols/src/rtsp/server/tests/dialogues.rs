//! What real clients wrote, byte for byte but for the session id: ffmpeg 5.1 publishing within the
//! connection and playing by datagrams, GStreamer 1.22's rtspclientsink publishing by datagrams and
//! its rtspsrc playing within the connection.

use std::fmt::Write as _;

use super::*;
use crate::session::RtpStart;

/// A client's name, its requests, and what comes of them.
type Dialogue = (&'static str, &'static str, &'static str);

const DIALOGUES: [Dialogue; 4] = [
    (
        "ffmpeg publishes",
        include_str!("../../testdata/ffmpeg_publish.txt"),
        "200 publish live/x? 200 200 200 200 PublishEnded 200",
    ),
    (
        "rtspclientsink publishes",
        include_str!("../../testdata/rtspclientsink.txt"),
        "200 publish live/x? 200 ports 0 false 49908 200 ports 1 true 57580 200 200",
    ),
    (
        "ffmpeg plays",
        include_str!("../../testdata/ffmpeg_play.txt"),
        "200 describe 200 ports 1 false 19706 200 play live/x?token=a/b 200 PlayEnded 200",
    ),
    (
        "rtspsrc plays",
        include_str!("../../testdata/rtspsrc.txt"),
        "200 describe 200 200 play live/x?token=a/b 200 Paused(true) 200 PlayEnded 200",
    ),
];

/// Runs the dialogue in these pieces, with an engine that grants everything; what comes of it.
fn run(pieces: &[&[u8]]) -> (String, Vec<u8>) {
    let mut bench = Bench::new();
    let (mut told, mut said) = (String::new(), Vec::new());
    for piece in pieces {
        bench.inbox.extend_from_slice(piece);
        let mut feed = true;
        while std::mem::take(&mut feed) {
            let fed = bench.server.handle_input(bench.now, Input::Stream(&mut bench.inbox));
            assert!(fed.is_ok(), "{fed:?}");
            let mut command = None;
            while let Some(output) = bench.server.poll_output() {
                match output {
                    Output::Transmit(bytes) => said.extend_from_slice(&bytes),
                    Output::Event(event) => command = grant(event, &mut told, &said),
                    Output::Datagram { .. } => panic!("no media here"),
                }
            }
            if let Some(command) = command {
                bench.server.handle_command(bench.now, command).unwrap();
                feed = true;
            }
        }
    }
    statuses(&mut told, &said);
    (told, said)
}

/// Writes down the statuses of answers that were not yet.
fn statuses(told: &mut String, said: &[u8]) {
    let text = String::from_utf8_lossy(said);
    let all: Vec<_> = text.matches("RTSP/1.0 ").collect();
    let known = told.split(' ').filter(|word| word.starts_with('2') && word.len() == 3).count();
    let codes = text.split("RTSP/1.0 ").skip(1).map(|answer| &answer[..3]);
    assert!(all.len() >= known);
    for code in codes.skip(known) {
        let space = if told.is_empty() { "" } else { " " };
        write!(told, "{space}{code}").unwrap();
    }
}

fn grant(event: Event, told: &mut String, said: &[u8]) -> Option<Command> {
    statuses(told, said);
    let start = Some(RtpStart { sequence: 1, rtptime: 2 });
    let (word, command) = match event {
        Event::PublishRequested(to) => {
            (format!("publish {}/{}?{}", to.app, to.name, to.query), Some(Command::Accept))
        }
        Event::DescribeRequested(_) => ("describe".to_owned(), Some(Command::Describe(sound()))),
        Event::PlayRequested(to) => (
            format!("play {}/{}?{}", to.app, to.name, to.query),
            Some(Command::AcceptPlay { video: start, audio: start }),
        ),
        Event::DatagramRequested { track, video, client_ports, .. } => {
            let rtp = 30_000 + 2 * u16::from(track);
            (
                format!("ports {track} {video} {}", client_ports.0),
                Some(Command::DatagramPorts { track, rtp, rtcp: rtp + 1 }),
            )
        }
        other => (format!("{other:?}"), None),
    };
    write!(told, " {word}").unwrap();
    command
}

/// The dialogue with the session id this seed gives.
fn text_of(requests: &str) -> String {
    let (_, said) =
        run(&[requests.split("Session: SESSION").next().unwrap_or_default().as_bytes()]);
    let said = String::from_utf8(said).unwrap();
    let id = said.split("Session: ").nth(1).and_then(|rest| rest.split(';').next());
    requests.replace("SESSION", id.unwrap_or_default())
}

#[test]
fn real_clients_get_what_they_came_for() {
    for (name, requests, expected) in DIALOGUES {
        let text = text_of(requests);
        assert_eq!(run(&[text.as_bytes()]).0, expected, "{name}");
    }
}

#[test]
fn every_split_gives_the_same_answers() {
    for (name, requests, _) in DIALOGUES {
        let text = text_of(requests);
        let whole = run(&[text.as_bytes()]);
        for first in 1..text.len() {
            let (a, b) = text.as_bytes().split_at(first);
            assert_eq!(run(&[a, b]), whole, "{name}: split at {first}");
        }
        let bytes: Vec<_> = text.as_bytes().chunks(1).collect();
        assert_eq!(run(&bytes), whole, "{name}: byte by byte");
    }
}
