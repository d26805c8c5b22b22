//! PAT and PMT of the program that is cut, and where in the stream they stand.

use std::ops::Range;

use super::cut::extend;
use crate::container::ts::packet::{NULL_PID, PACKET_BYTES, Packet};
use crate::container::ts::psi::{self, SectionReader};
use crate::container::ts::stream_type::{Format, format};

/// Identifiers up to this belong to tables of other standards.
const TABLE_PID_MAX: u16 = 0x1f;
/// Ranges of one table: its section has at most as many packets.
const RANGES_MAX: usize = 8;

/// The streams of the program, by identifier.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Selected {
    pub(super) video: Option<(u16, Format)>,
    pub(super) audio: Option<(u16, Format)>,
}

/// What a packet was to the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Not of the tables.
    Other,
    /// Of a table, or without meaning.
    Table,
    /// It completed a PMT with other streams than before.
    NewStreams,
}

/// Where a segment begins.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// Its first packet.
    pub(super) at: u64,
    /// Tables to stand before that.
    pub(super) tables: Vec<Range<u64>>,
}

#[derive(Debug, Default)]
struct Table {
    reader: SectionReader,
    /// The packets of the section in progress.
    packets: Vec<Range<u64>>,
    /// The packets of the last section of use.
    whole: Vec<Range<u64>>,
}

impl Table {
    /// Whether an intact section that `accept` likes ends in the packet.
    fn push(
        &mut self,
        offset: u64,
        packet: &Packet<'_>,
        mut accept: impl FnMut(&[u8]) -> bool,
    ) -> bool {
        let Some(payload) = packet.payload else { return false };
        // In front of the section that begins here may stand the end of the one before it.
        let mut before = match packet.unit_start {
            true => std::mem::take(&mut self.packets),
            false => Vec::new(),
        };
        if self.packets.len() < RANGES_MAX {
            extend(&mut self.packets, offset);
        }
        let (mut found, mut found_before) = (false, false);
        // Counts of damage are of no interest: a table comes again.
        self.reader.push(packet.unit_start, payload, |section, is_before| {
            if psi::is_intact(section) && accept(section) {
                found |= !is_before;
                found_before |= is_before;
            }
        });
        if found {
            self.whole.clone_from(&self.packets);
        } else if found_before {
            extend(&mut before, offset);
            self.whole = before;
        }
        found || found_before
    }
}

/// Packets of tables without any other between them.
#[derive(Debug, Default)]
struct Run {
    begin: u64,
    end: u64,
    has_pat: bool,
    /// A PMT after the PAT.
    has_both: bool,
}

/// See the module text.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pat: Table,
    pmt: Table,
    /// Program number and packet identifier of its PMT.
    chosen: Option<(u16, u16)>,
    selected: Selected,
    run: Run,
}

impl Tables {
    pub(super) fn selected(&self) -> Selected {
        self.selected
    }

    pub(super) fn on_packet(&mut self, offset: u64, packet: &Packet<'_>) -> Kind {
        let is_pmt = self.chosen.is_some_and(|(_, pid)| pid == packet.pid);
        if !is_pmt && packet.pid > TABLE_PID_MAX && packet.pid != NULL_PID {
            return Kind::Other;
        }
        if self.run.end != offset {
            self.run = Run { begin: offset, ..Run::default() };
        }
        self.run.end = offset + PACKET_BYTES as u64;
        if packet.pid == psi::PAT_PID {
            let mut first = None;
            let found = self.pat.push(offset, packet, |section| {
                first = psi::parse_pat(section).and_then(|mut programs| programs.next());
                first.is_some()
            });
            if first.is_some() && self.chosen != first {
                self.chosen = first;
                self.pmt = Table::default();
            }
            self.run.has_pat |= found;
        } else if is_pmt {
            return self.on_pmt(offset, packet);
        }
        Kind::Table
    }

    fn on_pmt(&mut self, offset: u64, packet: &Packet<'_>) -> Kind {
        let (chosen, mut selected) = (self.chosen.map(|(program, _)| program), None);
        let found = self.pmt.push(offset, packet, |section| {
            // Several programs may have their tables at one identifier.
            let ours = psi::parse_pmt(section).filter(|(program, _)| Some(*program) == chosen);
            if let Some((_, streams)) = &ours {
                selected = Some(select(streams));
            }
            ours.is_some()
        });
        self.run.has_both |= found && self.run.has_pat;
        match selected {
            Some(selected) if selected != self.selected => {
                self.selected = selected;
                Kind::NewStreams
            }
            _ => Kind::Table,
        }
    }

    /// Where a segment begins whose first packet of media is at `offset`, which is where the stream
    /// was read up to.
    pub(super) fn entry(&self, offset: u64) -> Entry {
        if self.run.end == offset && self.run.has_both {
            return Entry { at: self.run.begin, tables: Vec::new() };
        }
        let tables = self.pat.whole.iter().chain(&self.pmt.whole).cloned().collect();
        Entry { at: offset, tables }
    }
}

/// The first video and the first audio stream of a known type.
fn select(streams: &[psi::PmtStream<'_>]) -> Selected {
    let known = || streams.iter().filter_map(|stream| Some((stream.pid, format(stream)?)));
    Selected {
        video: known().find(|(_, format)| format.is_video()),
        audio: known().find(|(_, format)| !format.is_video()),
    }
}
