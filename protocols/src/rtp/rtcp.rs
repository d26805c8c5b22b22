//! RTCP packets read and written (RFC 3550 6, RFC 4585 6.3.1, RFC 5104 4.3.1).

use bytes::Bytes;
use rtcp::goodbye::Goodbye;
use rtcp::payload_feedbacks::full_intra_request::{FirEntry, FullIntraRequest};
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtcp::receiver_report::ReceiverReport;
use rtcp::reception_report::ReceptionReport;
use rtcp::sender_report::SenderReport;
use rtcp::source_description::{
    SdesType, SourceDescription, SourceDescriptionChunk, SourceDescriptionItem,
};
use webrtc_util::marshal::{Marshal, Unmarshal};

use super::{NtpTime, RtpError};

/// Most packets in a compound one: a report for each of the few tracks, and what goes with it.
const COMPOUND_MAX: usize = 64;
const SENDER_REPORT: u8 = 200;
const GOODBYE: u8 = 203;

/// What a receiver looks at.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// At this time the timestamp of the source was that.
    Report { ssrc: u32, ntp: NtpTime, timestamp: u32 },
    /// These sources end.
    Goodbye(Vec<u32>),
}

/// Reads a compound packet; what is not looked at is passed over.
///
/// # Errors
/// It does not add up from some part on; what was said before is in `said`.
pub(super) fn read(mut compound: &[u8], said: &mut Vec<Said>) -> Result<(), RtpError> {
    for _ in 0..COMPOUND_MAX {
        let Some([first, kind, high, low]) = compound.first_chunk() else {
            return if compound.is_empty() { Ok(()) } else { Err(RtpError::Rtcp) };
        };
        if first >> 6 != 2 {
            return Err(RtpError::Rtcp);
        }
        let kind = *kind;
        let bytes = 4 + 4 * usize::from(u16::from_be_bytes([*high, *low]));
        let (mut packet, rest) = compound.split_at_checked(bytes).ok_or(RtpError::Rtcp)?;
        compound = rest;
        match kind {
            SENDER_REPORT => {
                let report = SenderReport::unmarshal(&mut packet).map_err(|_| RtpError::Rtcp)?;
                let ntp = NtpTime::from_bits(report.ntp_time);
                let (ssrc, timestamp) = (report.ssrc, report.rtp_time);
                said.push(Said::Report { ssrc, ntp, timestamp });
            }
            GOODBYE => {
                let goodbye = Goodbye::unmarshal(&mut packet).map_err(|_| RtpError::Rtcp)?;
                said.push(Said::Goodbye(goodbye.sources));
            }
            _ => {}
        }
    }
    if compound.is_empty() { Ok(()) } else { Err(RtpError::Rtcp) }
}

fn append(packet: &impl Marshal, out: &mut Vec<u8>) {
    let bytes = packet.marshal().expect("all fields are within their bounds");
    out.extend_from_slice(&bytes);
}

/// A sender report and the name of its source.
pub(super) fn write_sender_report(report: &SenderReport, name: &str, out: &mut Vec<u8>) {
    append(report, out);
    write_name(report.ssrc, name, out);
}

/// A receiver report, the name of its source and, for keyframes, requests: of whatever sort
/// (`picture_loss`), and with its number as a command (`full_intra`).
pub(super) fn receiver_report(
    ssrc: u32,
    name: &str,
    block: ReceptionReport,
    picture_loss: bool,
    full_intra: Option<u8>,
) -> Bytes {
    let media_ssrc = block.ssrc;
    let mut out = Vec::new();
    append(&ReceiverReport { ssrc, reports: vec![block], ..ReceiverReport::default() }, &mut out);
    write_name(ssrc, name, &mut out);
    if picture_loss {
        append(&PictureLossIndication { sender_ssrc: ssrc, media_ssrc }, &mut out);
    }
    if let Some(sequence_number) = full_intra {
        // The media source stands in the entry only.
        let fir = vec![FirEntry { ssrc: media_ssrc, sequence_number }];
        append(&FullIntraRequest { sender_ssrc: ssrc, media_ssrc: 0, fir }, &mut out);
    }
    out.into()
}

fn write_name(ssrc: u32, name: &str, out: &mut Vec<u8>) {
    let text = Bytes::copy_from_slice(name.as_bytes());
    let item = SourceDescriptionItem { sdes_type: SdesType::SdesCname, text };
    let chunk = SourceDescriptionChunk { source: ssrc, items: vec![item] };
    append(&SourceDescription { chunks: vec![chunk] }, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> SenderReport {
        SenderReport { ssrc: 7, ntp_time: 8 << 32, rtp_time: 9, ..SenderReport::default() }
    }

    #[test]
    fn reports_and_ends_are_read() {
        let mut compound = Vec::new();
        write_sender_report(&report(), "name", &mut compound);
        let reason = Bytes::from_static(b"over");
        append(&Goodbye { sources: vec![7, 8], reason }, &mut compound);
        let mut said = Vec::new();
        assert_eq!(read(&compound, &mut said), Ok(()));
        let ntp = NtpTime::from_bits(8 << 32);
        assert_eq!(said[0], Said::Report { ssrc: 7, ntp, timestamp: 9 });
        assert_eq!(said[1], Said::Goodbye(vec![7, 8]));
        // The report is 28 bytes, the name 16 with its padding.
        for end in 1..compound.len() {
            let whole = end == 28 || end == 44;
            assert_eq!(read(&compound[..end], &mut Vec::new()).is_ok(), whole, "{end}");
        }
    }

    #[test]
    fn hostile_compounds_are_refused() {
        let refused = |bytes: &[u8]| read(bytes, &mut Vec::new()) == Err(RtpError::Rtcp);
        assert!(refused(&[0x40, 200, 0, 0]));
        assert!(refused(&[0x80, 201, 0xff, 0xff, 0, 0, 0, 1]));
        assert!(refused(&[0x80, 201, 0, 0].repeat(1000)));
        // A report cut short inside its own length, a reason that is longer than its packet.
        assert!(refused(&[0x80, 200, 0, 1, 0, 0, 0, 1]));
        assert!(refused(&[0x81, 203, 0, 2, 0, 0, 0, 1, 200, 1, 2, 3]));
        assert_eq!(read(&[0x80, 206, 0, 1, 0, 0, 0, 4], &mut Vec::new()), Ok(()));
        assert_eq!(read(&[], &mut Vec::new()), Ok(()));
    }
}
