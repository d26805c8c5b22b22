//! `connect`: where the client wants to go and what it understands, and the server's answers: go
//! on, go elsewhere, say who you are, or no.

use crate::amf::Value;
use crate::hops::{HopError, NodeId};
use crate::session::{ErrorClass, Event, SessionError};
use crate::text::{resolve_reference, split_query, split_url};

use super::super::command::{self, Command, HOPS_PROPERTY, NODE_PROPERTY, text_property};
use super::{Client, Phase, Role, auth, refused, transaction};

/// Codecs whose FourCC form the client writes and reads.
const FOURCC: [&str; 8] = ["hvc1", "av01", "vp08", "vp09", "Opus", "fLaC", "ac-3", "ec-3"];
/// What names any of the capabilities of Enhanced RTMP in an answer.
const ENHANCED: [&str; 4] = ["fourCcList", "videoFourCcInfoMap", "audioFourCcInfoMap", "capsEx"];

impl Client {
    pub(super) fn send_connect(&mut self) {
        let options = self.options.clone();
        self.link.set_chunk_size(options.chunk_size);
        let asked = |path: &str| match &options.auth {
            None => path.to_owned(),
            Some(query) => format!("{path}{}{query}", if path.contains('?') { '&' } else { '?' }),
        };
        let tc_url = asked(&options.tc_url);
        let mut properties = vec![
            ("app".to_owned(), command::text(&asked(&options.app))),
            ("type".to_owned(), command::text("nonprivate")),
            ("flashVer".to_owned(), command::text(&options.flash_ver)),
        ];
        if options.role == Role::Publish {
            // Encoders name themselves after where they go; some platforms look for it.
            properties.push(("swfUrl".to_owned(), command::text(&tc_url)));
        }
        properties.push(("tcUrl".to_owned(), command::text(&tc_url)));
        if options.enhanced {
            let list = FOURCC.iter().map(|code| command::text(code)).collect();
            properties.push(("fourCcList".to_owned(), Value::StrictArray(list)));
            properties.push(("capsEx".to_owned(), Value::Number(1.0)));
        }
        if !options.hops.is_empty() {
            properties.push((HOPS_PROPERTY.to_owned(), command::text(&options.hops.to_string())));
        }
        let connect = Command::new("connect", transaction::CONNECT).with(Value::Object(properties));
        self.link.send_command(0, &connect);
    }

    /// The server takes us: what it understands, and whether it is one the stream may pass.
    pub(super) fn on_connected(&mut self, command: &Command) -> Result<(), SessionError> {
        let says = |name: &&str| command.values.iter().any(|value| value.get(name).is_some());
        self.peer_enhanced = ENHANCED.iter().any(says);
        let node = command.values.iter().find_map(|value| text_property(value, NODE_PROPERTY));
        if let Some(node) = node.and_then(|text| text.parse::<NodeId>().ok()) {
            self.link.event(Event::PeerNode(node));
            // It would say no itself, but in the words for a name that is taken.
            let barred = self.options.hops.admit(node).err().map(|error| match error {
                HopError::Loop => ("loop", "the server is one the stream has passed already"),
                HopError::TooMany => ("too_many_hops", "the stream has passed too many servers"),
            });
            if let Some((reason, detail)) = barred {
                return Err(SessionError::new(ErrorClass::Refused, reason, detail));
            }
        }
        self.send_create_stream();
        self.phase = Phase::ExpectStream;
        Ok(())
    }

    /// The server does not take us, or not here, or not yet, or not what we want to do.
    pub(super) fn on_refused(&mut self, command: &Command) -> Result<(), SessionError> {
        if self.follow(command) {
            return Ok(());
        }
        let options = &self.options;
        if command.transaction_id != transaction::CONNECT {
            return Err(refused(command, options));
        }
        let description = text_property(command.information(), "description").unwrap_or_default();
        let answer = auth::answer(
            description,
            options.credentials.as_ref(),
            &options.app,
            options.auth.as_deref(),
            self.challenge,
        );
        match answer {
            Ok(None) => Err(refused(command, options)),
            Ok(Some(query)) => {
                self.link.event(Event::ConnectAgain(query.into()));
                self.end();
                Ok(())
            }
            Err(error) => {
                Err(SessionError::new(ErrorClass::Refused, "unauthorised", error.to_string()))
            }
        }
    }

    /// Whether an error or status sends us elsewhere: `ex.redirect` of its information object
    /// (Flash Media Server; nginx-rtmp and SRS do as it did).
    pub(super) fn follow(&mut self, command: &Command) -> bool {
        let extra = command.information().get("ex");
        let Some(url) = extra.and_then(|extra| text_property(extra, "redirect")) else {
            return false;
        };
        self.redirect(url);
        true
    }

    /// The server sends us to another. A player is sent to the app of that URL or to a stream of it;
    /// who publishes keeps its stream whatever else it says.
    pub(super) fn redirect(&mut self, url: &str) {
        let url = resolve_reference(&self.options.tc_url, url);
        let (base, query) = split_query(&url);
        let base = base.trim_end_matches('/');
        let (_, path, _) = split_url(base);
        let is_whole = path.trim_matches('/').contains('/') || self.options.role == Role::Publish;
        let (name, own) = split_query(if is_whole { "" } else { &self.options.stream });
        let mut there = if is_whole { base.to_owned() } else { format!("{base}/{name}") };
        for (query, mark) in [query, own].into_iter().filter(|q| !q.is_empty()).zip(['?', '&']) {
            there.push(mark);
            there.push_str(query);
        }
        self.link.event(Event::Redirected(there));
        self.end();
    }
}
