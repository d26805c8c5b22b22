//! What comes of a send is told alike, whichever way it goes; and the bytes are those of the wire.

use std::io::Read;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use bytes::Bytes;
use protocols::media::{Codec, Frame, FrameKind, Timestamp, Track, Tracks, VideoInfo};
use protocols::rtp::NtpTime;

use super::*;
use crate::net::sys_socket;
use crate::ring::Ingested;
use crate::stream::{Container, Format, PackagerOptions, WireLimits};

fn ways() -> [Box<dyn Egress>; 3] {
    let ring = || Box::new(RingEgress::new().unwrap());
    [Box::new(DirectEgress), ring(), Box::new(StagedEgress::new(ring()))]
}

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    near.set_nonblocking(true).unwrap();
    let (far, _) = listener.accept().unwrap();
    far.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    (near, far)
}

fn tracks() -> Tracks {
    let config = Bytes::from_static(&[1, 0x42, 0, 0x1e, 0xff, 0xe0, 0]);
    let video = Track { codec: Codec::H264, config, info: VideoInfo::default() };
    Tracks { video: Some(video), ..Tracks::default() }
}

/// A wire of FLV with so many pictures of so many bytes.
fn wire(messages: usize, bytes: usize) -> Wire {
    let container = Container::Flv;
    let format = Format {
        container,
        enhanced: false,
        legacy: false,
        video: true,
        audio: true,
        merge_ms: None,
    };
    let options = PackagerOptions {
        type3_extended_timestamp: true,
        legacy_h265_id: 12,
        rtp_packet_bytes: 1400,
        rtp_seed: 1,
        ntp_at_zero: NtpTime::from_bits(0),
    };
    let limits = WireLimits { bytes: usize::MAX, lag: Duration::from_secs(60) };
    let now = crate::clock::now();
    let mut wire = Wire::new(format, &tracks(), options, limits, now);
    append(&mut wire, messages, bytes);
    wire
}

fn append(wire: &mut Wire, messages: usize, bytes: usize) {
    for number in 0..messages {
        let frame = Frame {
            kind: FrameKind::Inter,
            dts: Timestamp::from_millis(i64::try_from(number).unwrap()),
            composition_offset: 0,
            payload: Bytes::from(vec![u8::try_from(number % 251).unwrap(); bytes]),
        };
        wire.append_frame(&tracks(), &Ingested { frame, at: crate::clock::now() }, false);
    }
}

fn viewer(socket: &TcpStream, conn: u32, offset: u64) -> Viewer {
    Viewer {
        fd: socket.as_raw_fd(),
        conn,
        offset,
        sent: 0,
        configuration: 0,
        blocked: false,
        enrolled: false,
        special: false,
    }
}

fn bytes_of(wire: &Wire, from: u64, to: u64) -> Vec<u8> {
    wire.parts(from, to).flatten().copied().collect()
}

/// Whole, cut, full and failed sends in one batch, each told as what it is.
#[test]
fn parcels_are_told_alike() {
    for mut egress in ways() {
        parcels_are_told_as_they_went(&mut *egress);
    }
}

fn parcels_are_told_as_they_went(egress: &mut dyn Egress) {
    let bytes: Vec<u8> = (0..32 << 20).map(|i: u32| (i >> 8) as u8).collect();
    let [(whole, mut whole_far), (slow, mut slow_far), (known, mut known_far), (gone, _far)] =
        [(); 4].map(|()| pair());
    gone.shutdown(Shutdown::Write).unwrap();
    let enrolled = egress.enroll(7, known.as_raw_fd());
    let parcel = |conn, socket: &TcpStream, range| Parcel {
        conn,
        fd: socket.as_raw_fd(),
        enrolled: enrolled && conn == 7,
        range,
    };
    let parcels = [
        parcel(1, &whole, 0..1000),
        parcel(2, &slow, 1000..bytes.len()),
        parcel(3, &gone, 0..1000),
        parcel(7, &known, 2000..5000),
    ];
    let mut send = |egress: &mut dyn Egress| {
        let mut outcome = Vec::new();
        egress.send_parcels(&bytes, &parcels, &mut outcome);
        let mut got = [0; 4000];
        whole_far.read_exact(&mut got[..1000]).unwrap();
        assert_eq!(got[..1000], bytes[..1000]);
        known_far.read_exact(&mut got[1000..]).unwrap();
        assert_eq!(got[1000..], bytes[2000..5000]);
        let [first, second, third, fourth] = <[io::Result<usize>; 4]>::try_from(outcome).unwrap();
        assert_eq!((first.unwrap(), fourth.unwrap()), (1000, 3000));
        assert_eq!(third.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        second
    };
    let mut sent = send(egress).unwrap();
    assert!(sent > 0 && sent < bytes.len() - 1000, "{sent}");
    // The peer's end may take in a little more of what waits in ours.
    while let Ok(more) = send(egress) {
        sent += more;
    }
    assert_eq!(send(egress).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    egress.dismiss(7);
    slow.shutdown(Shutdown::Write).unwrap();
    let mut got = Vec::new();
    slow_far.read_to_end(&mut got).unwrap();
    assert_eq!(got.len(), sent, "nothing was sent that was not told");
}

#[test]
fn a_batch_gives_each_viewer_what_it_lacks() {
    // Small batches and large ones take different ways.
    for (messages, bytes) in [(3, 500), (30, 4000)] {
        for mut egress in ways() {
            let wire = wire(messages, bytes);
            let (head, later) = (wire.head(), wire.head() - wire.head() / 3);
            let sockets: Vec<_> = (0..40).map(|_| pair()).collect();
            let mut viewers: Vec<_> =
                (0..40).map(|i| viewer(&sockets[i as usize].0, i, 0)).collect();
            viewers[20].offset = later;
            viewers[21].special = true;
            viewers[22].blocked = true;
            viewers[23].offset = head;
            viewers[24].enrolled = egress.enroll(24, viewers[24].fd);
            sockets[25].0.shutdown(Shutdown::Write).unwrap();
            let mut batch = Batch::default();
            egress.send_batch(&wire, &mut viewers, &mut batch);

            assert_eq!((batch.sends, batch.cut, batch.blocked), (37, 0, 0));
            assert_eq!(batch.special, [21]);
            assert_eq!(batch.failed, [(25, io::ErrorKind::BrokenPipe)]);
            assert_eq!(batch.bytes, 35 * head + (head - later));
            for (index, ((_, far), viewer)) in sockets.iter().zip(&viewers).enumerate() {
                let expected = match index {
                    20 => bytes_of(&wire, later, head),
                    21..=23 | 25 => Vec::new(),
                    _ => bytes_of(&wire, 0, head),
                };
                assert_eq!(viewer.sent, expected.len() as u64, "viewer {index}");
                let mut got = vec![0; expected.len()];
                let mut far = far;
                far.read_exact(&mut got).unwrap();
                assert!(got == expected, "viewer {index}");
            }
            egress.dismiss(24);
        }
    }
}

#[test]
fn a_viewer_whose_socket_is_full_goes_on_where_it_stopped() {
    for mut egress in ways() {
        let mut wire = wire(1, 300_000);
        let sockets: Vec<_> = (0..20).map(|_| pair()).collect();
        let mut viewers: Vec<_> = (0..20).map(|i| viewer(&sockets[i as usize].0, i, 0)).collect();
        for (near, _) in &sockets {
            sys_socket::tune(near.as_fd(), 0, 64, Duration::from_secs(30));
        }
        // Batches until nobody takes any more; the wire goes on meanwhile.
        let mut batches = 0;
        while !viewers.iter().all(|viewer| viewer.blocked) {
            let mut batch = Batch::default();
            egress.send_batch(&wire, &mut viewers, &mut batch);
            assert!(batch.failed.is_empty());
            append(&mut wire, 1, 300_000);
            batches += 1;
            assert!(batches < SLICES_MAX, "sockets have no end");
        }
        for ((near, mut far), viewer) in sockets.into_iter().zip(&viewers) {
            assert!(viewer.offset == viewer.sent && viewer.offset < wire.head());
            near.shutdown(Shutdown::Write).unwrap();
            let mut got = Vec::new();
            far.read_to_end(&mut got).unwrap();
            assert!(got == bytes_of(&wire, 0, viewer.offset), "viewer {}", viewer.conn);
        }
    }
}
