//! Hot paths for instruction counts: `wire NAME COUNT` does one of them so often. No clock is
//! read; run it under `valgrind --tool=callgrind` with two counts and take the difference.

use std::hint::black_box;
use std::io::Write;

use bytes::BytesMut;
use protocols::container::flv::{self, TagReader, TagType};
use protocols::rtmp::chunk::{Limits, Reader};
use protocols::rtmp::wire::write_message;

const SIZE: usize = 3500;
const CHUNK_SIZE: u32 = 4096;
const LIMITS: Limits =
    Limits { reassembly_bytes: 1 << 24, chunk_streams: 64, message_bytes: 1 << 24 };
const NAMES: [&str; 6] =
    ["rtmp-write", "rtmp-write-128", "rtmp-read", "rtmp-read-128", "flv-write", "flv-read"];

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let name = arguments.next();
    let count = arguments.next().and_then(|count| count.parse().ok()).unwrap_or(10);
    match name {
        Some(name) => run(&name, count),
        None => NAMES.iter().for_each(|name| run(name, count)),
    }
}

fn run(name: &str, count: usize) {
    let body = vec![0x5A; SIZE];
    match name {
        "rtmp-write" => rtmp_write(&body, CHUNK_SIZE, count),
        "rtmp-write-128" => rtmp_write(&body, 128, count),
        "rtmp-read" => rtmp_read(&body, CHUNK_SIZE, count),
        "rtmp-read-128" => rtmp_read(&body, 128, count),
        "flv-write" => flv_write(&body, count),
        "flv-read" => flv_read(&body, count),
        _ => drop(writeln!(std::io::stderr(), "one of: {}", NAMES.join(" "))),
    }
}

fn rtmp_write(body: &[u8], chunk_size: u32, count: usize) {
    let mut out = Vec::with_capacity(SIZE * 2);
    for index in 0..count {
        out.clear();
        let parts = [&body[..5], &body[5..]];
        write_message(&mut out, chunk_size, true, 6, 9, 1, index as u32, black_box(&parts));
        black_box(&out);
    }
}

fn rtmp_read(body: &[u8], chunk_size: u32, count: usize) {
    let mut wire = Vec::new();
    write_message(&mut wire, chunk_size, true, 6, 9, 1, 7, &[body]);
    let mut reader = Reader::new(LIMITS);
    reader.set_chunk_size(chunk_size).expect("the size is allowed");
    let mut input = BytesMut::with_capacity(wire.len() * 2);
    for _ in 0..count {
        input.extend_from_slice(black_box(&wire));
        black_box(reader.next_message(&mut input).expect("the chunks are well made"));
    }
}

fn flv_write(body: &[u8], count: usize) {
    let mut out = Vec::with_capacity(SIZE * 2);
    for index in 0..count {
        out.clear();
        let parts = [&body[..5], &body[5..]];
        flv::write_tag(&mut out, TagType::Video, index as u32, black_box(&parts));
        black_box(&out);
    }
}

fn flv_read(body: &[u8], count: usize) {
    let mut tag = Vec::new();
    flv::write_tag(&mut tag, TagType::Video, 7, &[body]);
    let mut reader = TagReader::new(1 << 20);
    let mut input = BytesMut::from(&flv::header(true, true)[..]);
    for _ in 0..count {
        input.extend_from_slice(black_box(&tag));
        black_box(reader.next_tag(&mut input).expect("the tags are well made"));
    }
}
