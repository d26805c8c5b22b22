//! A batch as one `sendmsg` per viewer: works everywhere.

use std::io::{self, IoSlice};
use std::os::fd::RawFd;

use super::egress::{Batch, Egress, Parcel, SLICES_MAX, eligible};
use crate::net::sys_socket;
use crate::stream::{Slices, Viewer, Wire};

/// See the module text.
#[derive(Debug)]
pub(super) struct DirectEgress;

/// Serves each eligible viewer by a call of its own; `send` gets the slices of its offset.
pub(super) fn one_by_one(
    wire: &Wire,
    viewers: &mut [Viewer],
    after: &mut Batch,
    send: impl Fn(&Viewer, &[IoSlice<'_>]) -> io::Result<usize>,
) {
    let head = wire.head();
    let mut slices = Slices::new();
    let (mut slices_of, mut slices_bytes) = (u64::MAX, 0);
    for viewer in viewers {
        match eligible(viewer, head) {
            None => continue,
            Some(false) => {
                after.defer(viewer);
                continue;
            }
            Some(true) => {}
        }
        if slices_of != viewer.offset {
            slices.clear();
            slices_bytes = wire.slices(viewer.offset, head, &mut slices, SLICES_MAX);
            slices_of = viewer.offset;
        }
        if slices_bytes as u64 != head - viewer.offset {
            // Evicted in part, or in more pieces than one send takes.
            after.defer(viewer);
            continue;
        }
        let sent = send(viewer, &slices);
        after.note(viewer, slices_bytes, sent);
    }
}

impl Egress for DirectEgress {
    fn send_batch(&mut self, wire: &Wire, viewers: &mut [Viewer], after: &mut Batch) {
        one_by_one(wire, viewers, after, |viewer, slices| {
            sys_socket::sendmsg_raw(viewer.fd, slices)
        });
    }

    fn send_parcels(
        &mut self,
        bytes: &[u8],
        parcels: &[Parcel],
        outcome: &mut Vec<io::Result<usize>>,
    ) {
        outcome.extend(parcels.iter().map(|parcel| {
            sys_socket::sendmsg_raw(parcel.fd, &[IoSlice::new(&bytes[parcel.range.clone()])])
        }));
    }

    fn enroll(&mut self, _conn: u32, _fd: RawFd) -> bool {
        false
    }

    fn dismiss(&mut self, _conn: u32) {}
}
