//! A batch as entries of a second io_uring ring, submitted by one system call.
//!
//! Every send carries `MSG_DONTWAIT`, so it is over when the submission returns: the bytes it
//! points at need to live no longer than the call, nothing is ever in flight, and a full socket is
//! an error like any other. What is saved is the system call per viewer. A send that took all it
//! was offered is not reported: the report that is missing says so.

// The ring's memory and the submission of raw pointers; each block says why it is sound.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::RawFd;

use io_uring::squeue::{self, Entry};
use io_uring::{IoUring, opcode, types};

use super::egress::{Batch, Egress, Parcel, SLICES_MAX, eligible};
use crate::stream::{Slices, Viewer, Wire};

/// Sends submitted at a time.
const ENTRIES: u32 = 1024;
/// Sockets the ring may know beforehand; viewers in higher slots are named by descriptor.
const FILES_MAX: u32 = 16_384;
/// A send that is cut counts as failed with `MSG_WAITALL`: those that are not need no report.
const FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | libc::MSG_WAITALL;

/// See the module text.
pub(super) struct RingEgress {
    ring: IoUring,
    /// Size of the table of known sockets.
    files: u32,
    /// Bytes offered per entry of the round being submitted.
    offered: Vec<usize>,
    /// Viewer index per entry of the round; none once its outcome is known.
    indices: Vec<Option<usize>>,
}

/// The slices of all viewers at one offset, as the kernel wants them.
struct Round {
    offset: u64,
    bytes: usize,
    // Boxed: the header points at the slices, and the entries at the header.
    slices: Box<[libc::iovec]>,
    header: Box<libc::msghdr>,
}

impl RingEgress {
    /// A ring of its own.
    ///
    /// # Errors
    /// The kernel refuses one, or does not know `SENDMSG` or how to report failures alone.
    pub(super) fn new() -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .dontfork()
            .build(ENTRIES)
            .or_else(|_| IoUring::new(ENTRIES))?;
        let mut probe = io_uring::Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        let sends = probe.is_supported(opcode::SendMsg::CODE)
            && probe.is_supported(opcode::Send::CODE)
            && ring.params().is_feature_skip_cqe_on_success();
        if !sends {
            return Err(io::ErrorKind::Unsupported.into());
        }
        // Sockets known beforehand save the kernel a look-up with two atomic operations per send.
        // Without a table (the limit of open files bounds it) they are named one by one.
        let sizes = [FILES_MAX, FILES_MAX / 16, 0];
        let sparse =
            |size: &u32| *size == 0 || ring.submitter().register_files_sparse(*size).is_ok();
        let files = sizes.into_iter().find(sparse).unwrap_or(0);
        let offered = Vec::with_capacity(ENTRIES as usize);
        Ok(Self { ring, files, offered, indices: Vec::with_capacity(ENTRIES as usize) })
    }

    fn push(&mut self, entry: &Entry, index: usize, bytes: usize) {
        let entry = entry.clone().user_data(self.indices.len() as u64);
        let entry = entry.flags(squeue::Flags::SKIP_SUCCESS);
        // SAFETY: the entry points at a round and wire bytes that outlive `submit`, which runs
        // before either can change; the descriptor belongs to a connection that is not closed
        // during a batch. The queue is never full: `submit` runs when it would be.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        debug_assert!(pushed.is_ok(), "the queue was emptied when it was full");
        self.indices.push(Some(index));
        self.offered.push(bytes);
    }

    /// Submits the round and tells of each entry: index, bytes offered, what came of it.
    fn submit(&mut self, mut note: impl FnMut(usize, usize, io::Result<usize>)) {
        while !self.ring.submission().is_empty() {
            if let Err(error) = self.ring.submit()
                && error.kind() != io::ErrorKind::Interrupted
            {
                // Entries that were not taken stay queued and would run with stale pointers: a
                // ring that fails like this cannot be used again, nor the shard without it.
                panic!("egress ring: {error}");
            }
        }
        for completion in self.ring.completion() {
            let entry = usize::try_from(completion.user_data()).unwrap_or(usize::MAX);
            let index = self.indices.get_mut(entry).and_then(Option::take);
            let (Some(index), Some(offered)) = (index, self.offered.get(entry)) else { continue };
            let result = completion.result();
            let sent = usize::try_from(result)
                .map_err(|_| io::Error::from_raw_os_error(result.saturating_neg()));
            note(index, *offered, sent);
        }
        for (index, offered) in self.indices.iter().zip(&self.offered) {
            if let Some(index) = index {
                note(*index, *offered, Ok(*offered));
            }
        }
        self.indices.clear();
        self.offered.clear();
    }
}

impl Round {
    fn new(wire: &Wire, offset: u64, head: u64) -> Self {
        let mut slices = Slices::new();
        let bytes = wire.slices(offset, head, &mut slices, SLICES_MAX);
        let slices: Box<[libc::iovec]> = slices
            .iter()
            .map(|slice| libc::iovec {
                iov_base: slice.as_ptr().cast_mut().cast(),
                iov_len: slice.len(),
            })
            .collect();
        // SAFETY: all-zero is a valid msghdr (no name, no control data, no slices).
        let mut header: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
        header.msg_iov = slices.as_ptr().cast_mut();
        header.msg_iovlen = slices.len();
        Self { offset, bytes, slices, header }
    }

    /// The entry of one viewer; one contiguous piece needs no header.
    fn entry(&self, viewer: &Viewer) -> Entry {
        let (known, named) = (types::Fixed(viewer.conn), types::Fd(viewer.fd));
        if let [one] = &*self.slices {
            let (base, length) = (one.iov_base.cast(), one.iov_len);
            let length = u32::try_from(length).unwrap_or(u32::MAX);
            if viewer.enrolled {
                opcode::Send::new(known, base, length).flags(FLAGS).build()
            } else {
                opcode::Send::new(named, base, length).flags(FLAGS).build()
            }
        } else {
            let (header, flags) = (&raw const *self.header, FLAGS.cast_unsigned());
            if viewer.enrolled {
                opcode::SendMsg::new(known, header).flags(flags).build()
            } else {
                opcode::SendMsg::new(named, header).flags(flags).build()
            }
        }
    }
}

impl Egress for RingEgress {
    fn send_batch(&mut self, wire: &Wire, viewers: &mut [Viewer], after: &mut Batch) {
        let head = wire.head();
        // Few offsets are in use at a time: most viewers stand where the last batch ended.
        let mut rounds: Vec<Round> = Vec::new();
        for index in 0..viewers.len() {
            let viewer = &viewers[index];
            match eligible(viewer, head) {
                None => continue,
                Some(false) => {
                    after.defer(viewer);
                    continue;
                }
                Some(true) => {}
            }
            if rounds.last().is_none_or(|round| round.offset != viewer.offset) {
                if rounds.len() >= ENTRIES as usize {
                    self.submit(|index, offered, sent| {
                        after.note(&mut viewers[index], offered, sent)
                    });
                    rounds.clear();
                }
                rounds.push(Round::new(wire, viewers[index].offset, head));
            }
            let viewer = &viewers[index];
            let Some(round) = rounds.last() else { continue };
            if round.bytes as u64 != head - viewer.offset {
                // Evicted in part, or in more pieces than one send takes.
                after.defer(viewer);
                continue;
            }
            let entry = round.entry(viewer);
            self.push(&entry, index, round.bytes);
            if self.indices.len() >= ENTRIES as usize {
                self.submit(|index, offered, sent| after.note(&mut viewers[index], offered, sent));
                // The last round may go on being used.
                rounds.drain(..rounds.len() - 1);
            }
        }
        self.submit(|index, offered, sent| after.note(&mut viewers[index], offered, sent));
    }

    fn send_parcels(
        &mut self,
        bytes: &[u8],
        parcels: &[Parcel],
        outcome: &mut Vec<io::Result<usize>>,
    ) {
        for parcels in parcels.chunks(ENTRIES as usize) {
            let first = outcome.len();
            for (index, parcel) in parcels.iter().enumerate() {
                let bytes = &bytes[parcel.range.clone()];
                let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                let entry = match parcel.enrolled {
                    true => opcode::Send::new(types::Fixed(parcel.conn), bytes.as_ptr(), length),
                    false => opcode::Send::new(types::Fd(parcel.fd), bytes.as_ptr(), length),
                };
                self.push(&entry.flags(FLAGS).build(), index, bytes.len());
                outcome.push(Ok(0));
            }
            self.submit(|index, _, sent| outcome[first + index] = sent);
        }
    }

    fn enroll(&mut self, conn: u32, fd: RawFd) -> bool {
        conn < self.files && self.ring.submitter().register_files_update(conn, &[fd]).is_ok()
    }

    fn dismiss(&mut self, conn: u32) {
        // The table would keep the socket open. An update with -1 of a slot in range cannot fail.
        let cleared = self.ring.submitter().register_files_update(conn, &[-1]);
        debug_assert!(cleared.is_ok());
    }
}
