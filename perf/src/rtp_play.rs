//! RTP as it is played: the dialogue of RTSP with media in its connection or beside it, or the floor
//! of datagrams. Frames come out as FLV tags; what is lost is told by sequence numbers.

use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use protocols::rtp::{PayloadFormat, Receiver, ReceiverEvent, ReceiverLimits};
use protocols::rtsp::client::{Client, ClientOptions, Preference};
use protocols::session::{Command, Event, Input, Output, Session};

use crate::Outcome;
use crate::checker::Tag;
use crate::media_reader::tag_of_frame;

/// Beyond this a step of sequence numbers is no loss but a packet that came late.
const STEP_MAX: u16 = 0x8000;

/// Ports of one track of a viewer: RTP and RTCP.
pub type Ports = (u16, u16);

/// Datagrams as their sequence numbers tell.
#[derive(Debug, Clone, Copy, Default)]
pub struct Arrivals {
    /// Datagrams that came.
    pub packets: u64,
    /// Datagrams that were passed over.
    pub lost: u64,
}

/// One viewer of RTP.
#[derive(Debug)]
pub struct RtpPlay {
    far: Far,
    /// Of video and of audio, if they come by datagrams.
    ports: Option<[Ports; 2]>,
    /// What the client calls the two.
    tracks: [u8; 2],
    /// Sequence number that is due, of the two.
    due: [Option<u16>; 2],
}

#[derive(Debug)]
enum Far {
    Rtsp(Box<Client>),
    Floor(Box<Receiver>),
}

impl RtpPlay {
    /// Will play a URL by RTSP, within the connection if it has no ports; appends its request.
    ///
    /// # Errors
    /// It is not a URL.
    pub fn rtsp(url: &str, ports: Option<[Ports; 2]>, out: &mut Vec<u8>) -> Outcome<Self> {
        let mut options = ClientOptions::new(url).ok_or_else(|| format!("{url} is no URL"))?;
        options.agent = "perf".to_owned();
        if ports.is_some() {
            options.preference = Preference::Datagram;
        }
        let client = Client::new(Instant::now(), crate::sys::monotonic_ns(), Arc::new(options));
        let mut play = Self::new(Far::Rtsp(Box::new(client)), ports);
        play.drain(out, &mut Vec::new())?;
        Ok(play)
    }

    /// Will play the floor's stream, whose tracks travel so; appends its request.
    pub fn floor(formats: Vec<PayloadFormat>, ports: [Ports; 2], out: &mut Vec<u8>) -> Self {
        out.extend_from_slice(format!("PLAY {} {}\n", ports[0].0, ports[1].0).as_bytes());
        let receiver = Receiver::new(Instant::now(), 1, ReceiverLimits::default(), formats);
        Self::new(Far::Floor(Box::new(receiver)), Some(ports))
    }

    fn new(far: Far, ports: Option<[Ports; 2]>) -> Self {
        Self { far, ports, tracks: [0, 1], due: [None; 2] }
    }

    /// Takes what is whole from `input`; requests go to `out`, media to `tags`.
    ///
    /// # Errors
    /// The server refuses or cannot be understood.
    pub fn take(
        &mut self,
        input: &mut BytesMut,
        out: &mut Vec<u8>,
        tags: &mut Vec<Tag>,
    ) -> Result<(), String> {
        match &mut self.far {
            Far::Rtsp(client) => {
                let taken = client.handle_input(Instant::now(), Input::Stream(input));
                taken.map_err(|error| error.to_string())?;
            }
            Far::Floor(_) => input.clear(),
        }
        self.drain(out, tags)
    }

    /// Takes a datagram that came for video (0) or audio (1).
    ///
    /// # Errors
    /// As [`Self::take`].
    pub fn take_datagram(
        &mut self,
        index: usize,
        data: &[u8],
        arrivals: &mut Arrivals,
        out: &mut Vec<u8>,
        tags: &mut Vec<Tag>,
    ) -> Result<(), String> {
        let [_, _, high, low, ..] = *data else { return Err("a datagram without header".into()) };
        let (sequence, data) = (u16::from_be_bytes([high, low]), Bytes::copy_from_slice(data));
        let step = sequence.wrapping_sub(self.due[index].unwrap_or(sequence));
        arrivals.packets += 1;
        if step < STEP_MAX {
            arrivals.lost += u64::from(step);
            self.due[index] = Some(sequence.wrapping_add(1));
        }
        match &mut self.far {
            Far::Rtsp(client) => {
                let input = Input::Datagram { track: self.tracks[index], rtcp: false, data };
                let taken = client.handle_input(Instant::now(), input);
                taken.map_err(|error| error.to_string())?;
            }
            Far::Floor(receiver) => {
                let taken = receiver.handle_rtp(Instant::now(), index, data);
                taken.map_err(|error| error.to_string())?;
            }
        }
        self.drain(out, tags)
    }

    /// Says what is due by time: that the viewer lives.
    ///
    /// # Errors
    /// The server has not answered.
    pub fn handle_timeout(&mut self, out: &mut Vec<u8>) -> Result<(), String> {
        if let Far::Rtsp(client) = &mut self.far {
            let told = client.handle_input(Instant::now(), Input::Timeout);
            told.map_err(|error| error.to_string())?;
        }
        self.drain(out, &mut Vec::new())
    }

    fn drain(&mut self, out: &mut Vec<u8>, tags: &mut Vec<Tag>) -> Result<(), String> {
        let client = match &mut self.far {
            Far::Rtsp(client) => client,
            Far::Floor(receiver) => {
                while let Some(event) = receiver.poll_event() {
                    if let ReceiverEvent::Frame(frame) = event {
                        tags.extend(tag_of_frame(&frame));
                    }
                }
                return Ok(());
            }
        };
        while let Some(output) = client.poll_output() {
            match output {
                Output::Transmit(bytes) => out.extend_from_slice(&bytes),
                // Requests keep the session alive; reports would say nothing that is used.
                Output::Datagram { .. } => {}
                Output::Event(Event::Frame(frame)) => tags.extend(tag_of_frame(&frame)),
                Output::Event(Event::DatagramRequested { track, video, .. }) => {
                    let index = usize::from(!video);
                    self.tracks[index] = track;
                    let command = match self.ports {
                        Some(ports) => {
                            let (rtp, rtcp) = ports[index];
                            Command::DatagramPorts { track, rtp, rtcp }
                        }
                        None => return Err("ports for media within the connection".to_owned()),
                    };
                    let told = client.handle_command(Instant::now(), command);
                    told.map_err(|error| error.to_string())?;
                }
                Output::Event(Event::PublishEnded) => return Err("the server ended it".to_owned()),
                Output::Event(Event::Redirected(url)) => return Err(format!("sent to {url}")),
                Output::Event(_) => {}
            }
        }
        Ok(())
    }
}
