//! `play` and the commands of a player.

use std::time::Instant;

use crate::amf::Value;
use crate::session::{Event, Refusal, SessionError};

use super::super::command::{self, Command};
use super::super::control::{self, UserControl};
use super::super::status::{Level, code, on_status};
use super::{PING_INTERVAL, Pending, Phase, Server};

/// A play in progress.
#[derive(Debug)]
pub(super) struct Playing {
    pub(super) message_stream_id: u32,
    name: String,
    paused: bool,
}

impl Playing {
    /// Bytes held on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.name.capacity()
    }
}

impl Server {
    /// `play` (RTMP 1.0, 7.2.2.1). Start, duration and reset mean nothing on a live stream.
    pub(super) fn on_play(
        &mut self,
        now: Instant,
        message_stream_id: u32,
        command: &Command,
    ) -> Result<(), SessionError> {
        self.admit(message_stream_id, "play", code::PLAY_FAILED)?;
        let name = command.text(1).unwrap_or_default();
        let request = self.access_request(message_stream_id, name, code::PLAY_NOT_FOUND)?;
        let name = request.name.clone();
        self.phase = Phase::AwaitPlay(Pending { message_stream_id, name });
        self.deadline = None;
        self.ping_at = now.checked_add(PING_INTERVAL);
        self.link.event(Event::PlayRequested(request));
        Ok(())
    }

    /// `StreamBegin` and the statuses players wait for before they read media. The data messages
    /// Flash Player wanted besides (`|RtmpSampleAccess`, `NetStream.Data.Start`) are left out:
    /// players of today show them as a data track of their own.
    pub(super) fn accept_play(&mut self, pending: Pending) {
        let Pending { message_stream_id, name } = pending;
        self.link.send(&control::user_control(UserControl::StreamBegin(message_stream_id)));
        let reset = on_status(Level::Status, code::PLAY_RESET, "playlist reset");
        self.link.send_command(message_stream_id, &reset);
        let start = on_status(Level::Status, code::PLAY_START, "playing");
        self.link.send_command(message_stream_id, &start);
        for (video, wanted) in [(false, self.wants_audio), (true, self.wants_video)] {
            if !wanted {
                self.link.event(Event::Receive { video, wanted });
            }
        }
        self.phase = Phase::Playing(Playing { message_stream_id, name, paused: false });
    }

    /// `play2` (RTMP 1.0, 7.2.2.2): there is no other rendition to switch to.
    pub(super) fn on_play2(&mut self, message_stream_id: u32, command: &Command) {
        let null = Value::Null;
        let options = command.values.get(1).unwrap_or(&null);
        let wanted = command::text_property(options, "streamName").unwrap_or_default();
        let same = match (&self.phase, &self.peer) {
            (Phase::Playing(playing), Some(peer)) => {
                peer.target.join(wanted).is_ok_and(|to| to.name == playing.name)
            }
            _ => false,
        };
        let status = if same {
            on_status(Level::Status, code::PLAY_START, "playing")
        } else {
            on_status(Level::Error, code::STREAM_FAILED, "switching streams is not supported")
        };
        self.link.send_command(message_stream_id, &status);
    }

    /// `pause` (RTMP 1.0, 7.2.2.9) and its sibling of Flash Media Server.
    pub(super) fn on_pause(&mut self, message_stream_id: u32, command: &Command) {
        let Phase::Playing(playing) = &mut self.phase else {
            return;
        };
        let paused = command.bool(1).unwrap_or(!playing.paused);
        if playing.paused != paused {
            playing.paused = paused;
            self.link.event(Event::Paused(paused));
        }
        let status = if paused {
            on_status(Level::Status, code::PAUSE_NOTIFY, "paused")
        } else {
            on_status(Level::Status, code::UNPAUSE_NOTIFY, "playing")
        };
        self.link.send_command(message_stream_id, &status);
    }

    /// `receiveAudio` and `receiveVideo` (RTMP 1.0, 7.2.2.4 and 5).
    pub(super) fn on_receive(&mut self, video: bool, command: &Command) {
        let Some(wanted) = command.bool(1) else {
            return;
        };
        let current = if video { &mut self.wants_video } else { &mut self.wants_audio };
        if *current != wanted {
            *current = wanted;
            if self.is_playing() {
                self.link.event(Event::Receive { video, wanted });
            }
        }
    }

    pub(super) fn on_publisher(&mut self, back: bool) {
        let Phase::Playing(playing) = &self.phase else {
            return;
        };
        let id = playing.message_stream_id;
        let (control, code, text) = if back {
            (UserControl::StreamBegin(id), code::PLAY_PUBLISH_NOTIFY, "publisher is back")
        } else {
            (UserControl::StreamEof(id), code::PLAY_UNPUBLISH_NOTIFY, "publisher has gone")
        };
        self.link.send(&control::user_control(control));
        self.link.send_command(id, &on_status(Level::Status, code, text));
    }

    pub(super) fn stop_play(&mut self, message_stream_id: u32, refusal: Refusal) {
        self.link.send(&control::user_control(UserControl::StreamEof(message_stream_id)));
        let status = on_status(Level::Status, code::PLAY_STOP, refusal.text());
        self.link.send_command(message_stream_id, &status);
    }

    pub(super) fn ping(&mut self, now: Instant) {
        let time = self.link.clock_ms(now);
        self.link.send(&control::user_control(UserControl::PingRequest(time)));
        self.ping_at = now.checked_add(PING_INTERVAL);
    }
}
