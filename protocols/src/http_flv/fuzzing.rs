//! Fuzz bodies: what a server may answer.

use std::collections::VecDeque;

use bytes::BytesMut;

use super::{Client, ClientOptions};
use crate::fuzzing::{Target, virtual_epoch};
use crate::session::{Event, Input, Output, Session};

/// Targets of the protocol.
pub const TARGETS: &[(&str, Target)] = &[("http_flv_client", client)];

/// Answers to start from.
#[cfg(test)]
pub(crate) const SEEDS: &[&[u8]] = &[
    b"\x40HTTP/1.1 200 OK\r\n\r\nFLV\x01\x05\0\0\0\x09\0\0\0\0\x08\0\0\x05\0\0\0\0\0\0\0\x2f\xff\xfb\x90\0",
    b"\x05HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;a=b\r\nFLV\x01\r\n5\r\n\x05\0\0\0\x09\r\n",
    b"\x01HTTP/1.1 302 Found\r\nLocation: http://h/x.flv\r\n\r\n",
];

/// Bytes of a server: the first says how they are cut. However that is, the same frames come out.
pub fn client(data: &[u8]) {
    let Some((&cut, answer)) = data.split_first() else { return };
    let whole = frames(answer, answer.len().max(1));
    let pieces = frames(answer, usize::from(cut).max(1));
    assert_eq!(whole, pieces, "frames depend on how the bytes arrive");
}

fn frames(answer: &[u8], piece: usize) -> VecDeque<(i64, usize)> {
    let mut client = Client::new(ClientOptions {
        url: "http://h/x.flv".to_owned(),
        agent: String::new(),
        legacy_h265_id: 12,
        tag_bytes: 1 << 16,
        hops: crate::hops::Hops::default(),
    });
    let (mut frames, mut input) = (VecDeque::new(), BytesMut::new());
    for bytes in answer.chunks(piece) {
        input.extend_from_slice(bytes);
        let result = client.handle_input(virtual_epoch(), Input::Stream(&mut input));
        while let Some(output) = client.poll_output() {
            if let Output::Event(Event::Frame(frame)) = output {
                frames.push_back((frame.dts.nanos(), frame.payload.len()));
            }
        }
        assert!(input.len() <= 20 * 1024 + piece, "the client holds nothing back");
        if result.is_err() {
            break;
        }
    }
    frames
}
