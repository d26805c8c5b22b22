//! `publish` and the media that follows it.

use std::time::Instant;

use crate::session::{Event, SessionError};

use super::super::command::Command;
use super::super::control::{self, UserControl};
use super::super::ingest::Ingest;
use super::super::message::Message;
use super::super::status::{Level, code, on_status};
use super::{Pending, Phase, Server};

/// A publication in progress.
#[derive(Debug)]
pub(super) struct Publishing {
    pub(super) message_stream_id: u32,
    ingest: Ingest,
}

impl Server {
    /// `publish` (RTMP 1.0, 7.2.2.6). Live, record and append are all live here.
    pub(super) fn on_publish(
        &mut self,
        message_stream_id: u32,
        command: &Command,
    ) -> Result<(), SessionError> {
        self.admit(message_stream_id, "publish", code::PUBLISH_FAILED)?;
        let name = command.text(1).unwrap_or_default();
        let request = self.access_request(message_stream_id, name, code::PUBLISH_BAD_NAME)?;
        let name = request.name.clone();
        self.phase = Phase::AwaitPublish(Pending { message_stream_id, name });
        self.deadline = None;
        self.link.event(Event::PublishRequested(request));
        Ok(())
    }

    pub(super) fn accept_publish(&mut self, now: Instant, pending: Pending) {
        let message_stream_id = pending.message_stream_id;
        self.link.send(&control::user_control(UserControl::StreamBegin(message_stream_id)));
        self.link.send_command(
            message_stream_id,
            &on_status(Level::Status, code::PUBLISH_START, "publishing"),
        );
        self.phase = Phase::Publishing(Box::new(Publishing {
            message_stream_id,
            ingest: Ingest::new(now, self.options.legacy_h265_id),
        }));
    }

    /// Takes media apart. Only a publication has any: elsewhere it is dropped.
    pub(super) fn on_media(&mut self, now: Instant, message: Message) -> Result<(), SessionError> {
        let Phase::Publishing(publishing) = &mut self.phase else {
            tracing::trace!(type_id = message.type_id, "media outside a publication dropped");
            return Ok(());
        };
        let message_stream_id = publishing.message_stream_id;
        publishing.ingest.handle(now, message, &mut self.link).inspect_err(|error| {
            let status = on_status(Level::Error, code::PUBLISH_FAILED, &error.detail);
            self.link.send_command(message_stream_id, &status);
        })
    }
}
