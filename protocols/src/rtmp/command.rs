//! Command messages (RTMP 1.0, 7.2): a name, a transaction id and AMF0 arguments.

use bytes::Bytes;

use crate::amf::{self, Value};
use crate::session::{ErrorClass, SessionError};

use super::message::{Message, type_id};

/// Property of the command object of `connect` that carries [`crate::hops::Hops`].
pub const HOPS_PROPERTY: &str = "smartHops";
/// Property of its answer that names the node, for peers that have sent the former.
pub const NODE_PROPERTY: &str = "smartNode";

/// Longest command name and text argument looked at.
const TEXT_BYTES_MAX: usize = 8192;

/// One command, in either direction.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// Procedure.
    pub name: String,
    /// 0 when no answer is wanted.
    pub transaction_id: f64,
    /// What follows: the command object (often null), then the arguments.
    pub values: Vec<Value>,
}

impl Command {
    /// A command without values.
    pub fn new(name: &str, transaction_id: f64) -> Self {
        Self { name: name.to_owned(), transaction_id, values: Vec::new() }
    }

    /// With one more value.
    #[must_use]
    pub fn with(mut self, value: Value) -> Self {
        self.values.push(value);
        self
    }

    /// From a command message of type 20 or 17. The latter ("AMF3") carries AMF0 after one
    /// format byte in every client in use; single values may switch to AMF3 inside either.
    ///
    /// # Errors
    /// The payload is not a command.
    pub fn parse(message: &Message) -> Result<Self, SessionError> {
        let payload = match message.type_id {
            type_id::COMMAND_AMF3 => without_format_byte(&message.payload),
            _ => message.payload.clone(),
        };
        let values = amf::decode_all(&payload).map_err(|error| bad_command(error.to_string()))?;
        let mut values = values.into_iter();
        let name = match values.next() {
            Some(Value::Text(name)) if name.len() <= TEXT_BYTES_MAX => name,
            _ => return Err(bad_command("command without a name")),
        };
        let transaction_id = match values.next() {
            Some(Value::Number(id)) if id.is_finite() => id,
            Some(Value::Number(_)) => return Err(bad_command("transaction id is not finite")),
            _ => 0.0,
        };
        Ok(Self { name, transaction_id, values: values.collect() })
    }

    /// As an AMF0 payload.
    pub fn encode(&self) -> Bytes {
        let head = [Value::Text(self.name.clone()), Value::Number(self.transaction_id)];
        let mut out = Vec::with_capacity(128);
        amf::encode(&head, &mut out);
        amf::encode(&self.values, &mut out);
        out.into()
    }

    /// The text at a position, 0 being the command object.
    pub fn text(&self, index: usize) -> Option<&str> {
        self.values.get(index)?.as_text().filter(|text| text.len() <= TEXT_BYTES_MAX)
    }

    /// The information object of a status, a result or an error (RTMP 1.0, 7.2); null without one.
    pub fn information(&self) -> &Value {
        self.values.get(1).unwrap_or(&Value::Null)
    }

    /// The number at a position.
    pub fn number(&self, index: usize) -> Option<f64> {
        self.values.get(index)?.as_number()
    }

    /// The truth value at a position; clients send 0 and 1 for it too.
    pub fn bool(&self, index: usize) -> Option<bool> {
        match self.values.get(index) {
            Some(&Value::Bool(flag)) => Some(flag),
            Some(&Value::Number(number)) => Some(number != 0.0),
            _ => None,
        }
    }
}

/// AMF0 content of an "AMF3" message: the first byte names the format and 0 means AMF0. An AMF0
/// command or data message starts with a string (2), so a missing format byte is unambiguous.
pub(super) fn without_format_byte(payload: &Bytes) -> Bytes {
    match payload.first() {
        Some(0) => payload.slice(1..),
        _ => payload.clone(),
    }
}

/// A text property of an object, bounded.
pub fn text_property<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name)?.as_text().filter(|text| text.len() <= TEXT_BYTES_MAX)
}

/// A number property of an object.
pub fn number_property(value: &Value, name: &str) -> Option<f64> {
    value.get(name)?.as_number()
}

/// An object of the given properties.
pub fn object<const N: usize>(properties: [(&str, Value); N]) -> Value {
    Value::Object(properties.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// A text value.
pub fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn bad_command(detail: impl Into<String>) -> SessionError {
    SessionError::new(ErrorClass::PeerMisbehaved, "bad_command", detail)
}
