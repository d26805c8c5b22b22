//! Large batches to many viewers without a copy for each: keyframes above all.
//!
//! Copying into the socket is a sixth of what a send of 12 KiB costs, and more the larger it is.
//! What is worth it is laid out once in pages that all sockets refer to
//! ([`crate::net::sys_stage`]); the rest goes the way the egress below sends it.

use std::io;
use std::os::fd::RawFd;

use super::direct_egress::one_by_one;
use super::egress::{Batch, Egress, Parcel, SLICES_MAX, eligible};
use crate::net::sys_socket;
use crate::net::sys_stage::Stage;
use crate::stream::{Slices, Viewer, Wire};

/// A batch of at least so many bytes is laid out: below it, referring to pages costs as much as
/// copying into them.
const BYTES_MIN: u64 = 16 * 1024;
/// And of no more than so many: what the pages of one batch may come to.
const BYTES_MAX: u64 = 4 << 20;
/// For at least so many viewers at one offset: laying out costs as much as some copies.
const VIEWERS_MIN: usize = 16;

/// See the module text.
pub(super) struct StagedEgress {
    below: Box<dyn Egress>,
    /// None once it has failed.
    stage: Option<Stage>,
}

impl StagedEgress {
    /// What is not worth laying out goes to `below`.
    pub(super) fn new(below: Box<dyn Egress>) -> Self {
        let stage = Stage::new().inspect_err(|error| {
            tracing::info!(%error, "no pages for egress: large batches are copied per viewer");
        });
        Self { below, stage: stage.ok() }
    }

    /// Lays out what most of the viewers are to get, if it is worth it: the offset they stand at.
    fn lay_out(stage: &mut Stage, wire: &Wire, viewers: &[Viewer]) -> io::Result<Option<u64>> {
        let head = wire.head();
        let mut due = viewers.iter().filter(|viewer| eligible(viewer, head) == Some(true));
        let Some(first) = due.next() else { return Ok(None) };
        let (offset, bytes) = (first.offset, head - first.offset);
        if !(BYTES_MIN..=BYTES_MAX).contains(&bytes) {
            return Ok(None);
        }
        // The first is one of them.
        let alike = due.filter(|viewer| viewer.offset == offset).take(VIEWERS_MIN - 1).count();
        if alike < VIEWERS_MIN - 1 {
            return Ok(None);
        }
        let mut slices = Slices::new();
        if wire.slices(offset, head, &mut slices, SLICES_MAX) as u64 != bytes {
            return Ok(None);
        }
        stage.put(&slices).map(|_| Some(offset))
    }
}

impl Egress for StagedEgress {
    fn send_batch(&mut self, wire: &Wire, viewers: &mut [Viewer], after: &mut Batch) {
        let Some(stage) = &mut self.stage else {
            return self.below.send_batch(wire, viewers, after);
        };
        let done = match Self::lay_out(stage, wire, viewers) {
            Ok(None) => return self.below.send_batch(wire, viewers, after),
            Ok(Some(offset)) => {
                one_by_one(wire, viewers, after, |viewer, slices| match viewer.offset == offset {
                    true => stage.send_raw(viewer.fd),
                    false => sys_socket::sendmsg_raw(viewer.fd, slices),
                });
                stage.clear()
            }
            Err(error) => {
                self.below.send_batch(wire, viewers, after);
                Err(error)
            }
        };
        if let Err(error) = done {
            tracing::warn!(%error, "no pages for egress: large batches are copied per viewer");
            self.stage = None;
        }
    }

    fn send_parcels(
        &mut self,
        bytes: &[u8],
        parcels: &[Parcel],
        outcome: &mut Vec<io::Result<usize>>,
    ) {
        self.below.send_parcels(bytes, parcels, outcome);
    }

    fn enroll(&mut self, conn: u32, fd: RawFd) -> bool {
        self.below.enroll(conn, fd)
    }

    fn dismiss(&mut self, conn: u32) {
        self.below.dismiss(conn);
    }
}
