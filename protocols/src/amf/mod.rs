//! Action Message Format values: AMF0 in and out, AMF3 in, all sizes bounded by the message.
//!
//! | specification | done |
//! | ------------- | ---- |
//! | AMF0 (Adobe, December 2007) | decode: every marker; encode: every [`Value`] |
//! | AMF3 (Adobe, January 2013) | decode: every marker but externalizable objects of unknown size |
//!
//! Tolerated: an object or ECMA array without its end marker when it is the last thing in the
//! input; text that is not UTF-8 (replaced, not refused). Objects by reference become
//! [`Value::Null`]: nothing in RTMP needs them, and a copy per reference is a memory bomb.

mod amf0;
mod amf3;

/// Deepest nesting of objects and arrays.
pub const DEPTH_MAX: usize = 16;
/// Most values in one input, nested ones included.
pub const VALUES_MAX: usize = 4096;

/// A value of AMF0 or AMF3, reduced to what RTMP and FLV use.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number; NaN and infinities are possible.
    Number(f64),
    /// A truth value.
    Bool(bool),
    /// A text of any length.
    Text(String),
    /// Null; also what a reference to an earlier object becomes.
    Null,
    /// Undefined; also the unsupported marker.
    Undefined,
    /// Named properties in wire order. A typed object loses its class name.
    Object(Vec<(String, Value)>),
    /// An associative array in wire order.
    EcmaArray(Vec<(String, Value)>),
    /// A dense array.
    StrictArray(Vec<Value>),
    /// Milliseconds since 1970 in UTC; the time zone of the wire is reserved and dropped.
    Date(f64),
    /// An XML document as text.
    Xml(String),
    /// An AMF3 byte array. AMF0 has no such type: encoded as text.
    Bytes(Vec<u8>),
}

impl Value {
    /// The number, if it is one.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The truth value, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The properties of an object or an ECMA array, in wire order.
    pub fn properties(&self) -> Option<&[(String, Self)]> {
        match self {
            Self::Object(properties) | Self::EcmaArray(properties) => Some(properties),
            _ => None,
        }
    }

    /// The first property of this name of an object or an ECMA array.
    pub fn get(&self, name: &str) -> Option<&Self> {
        self.properties()?.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

/// Why bytes are not AMF this server accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AmfError {
    /// The input ends inside a value, or a length or count is larger than what is left.
    #[error("AMF value is cut short")]
    Truncated,
    /// A type marker the specification does not define or reserves.
    #[error("AMF marker {0:#04x} is unknown")]
    UnknownMarker(u8),
    /// More than [`DEPTH_MAX`] levels.
    #[error("AMF value is nested deeper than 16 levels")]
    TooDeep,
    /// More than [`VALUES_MAX`] values.
    #[error("AMF message holds more than 4096 values")]
    TooManyValues,
    /// A reference to something that was not sent before.
    #[error("AMF reference {0} points at nothing")]
    BadReference(u32),
    /// References whose copies would be larger than the budget of the message.
    #[error("AMF references expand beyond the limit")]
    TooLarge,
    /// An AMF3 externalizable object, whose size only its class knows.
    #[error("AMF3 externalizable object cannot be read")]
    Externalizable,
}

/// Decodes AMF0 values up to the end of `input`. A value may switch to AMF3 by marker 0x11.
///
/// # Errors
/// See [`AmfError`]; nothing is returned of an input that is bad anywhere.
pub fn decode_all(input: &[u8]) -> Result<Vec<Value>, AmfError> {
    decode_prefix(input, usize::MAX).map(|(values, _)| values)
}

/// Decodes at most `values_max` AMF0 values from the front of `input` and returns them with the
/// bytes they took; what follows is not looked at.
///
/// # Errors
/// As [`decode_all`], within the values read.
pub fn decode_prefix(input: &[u8], values_max: usize) -> Result<(Vec<Value>, usize), AmfError> {
    amf0::decode(input, values_max)
}

/// Appends `values` to `out` in AMF0. Nesting beyond [`DEPTH_MAX`] is written as null; property
/// names are cut at 65,535 bytes.
pub fn encode(values: &[Value], out: &mut Vec<u8>) {
    for value in values {
        amf0::encode(value, DEPTH_MAX, out);
    }
}

/// What is left of the bounds while one input is decoded, shared by AMF0 and AMF3.
struct Budget {
    values: usize,
    copied_bytes: usize,
}

impl Budget {
    fn new(input: &[u8]) -> Self {
        Self { values: VALUES_MAX, copied_bytes: input.len().saturating_mul(4) }
    }

    fn take_value(&mut self) -> Result<(), AmfError> {
        self.values = self.values.checked_sub(1).ok_or(AmfError::TooManyValues)?;
        Ok(())
    }

    /// Pays for a copy of something that was on the wire once.
    fn take_copy(&mut self, bytes: usize) -> Result<(), AmfError> {
        self.copied_bytes = self.copied_bytes.checked_sub(bytes).ok_or(AmfError::TooLarge)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
