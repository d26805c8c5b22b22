//! AMF0 on the wire: every marker of section 2.1 in, every [`Value`] out.

use super::{AmfError, Budget, DEPTH_MAX, Value, amf3};
use crate::bits::ByteReader;

const NUMBER: u8 = 0x00;
const BOOLEAN: u8 = 0x01;
const STRING: u8 = 0x02;
const OBJECT: u8 = 0x03;
const NULL: u8 = 0x05;
const UNDEFINED: u8 = 0x06;
const REFERENCE: u8 = 0x07;
const ECMA_ARRAY: u8 = 0x08;
const OBJECT_END: u8 = 0x09;
const STRICT_ARRAY: u8 = 0x0a;
const DATE: u8 = 0x0b;
const LONG_STRING: u8 = 0x0c;
const UNSUPPORTED: u8 = 0x0d;
const XML_DOCUMENT: u8 = 0x0f;
const TYPED_OBJECT: u8 = 0x10;
const AVMPLUS: u8 = 0x11;

/// See [`super::decode_prefix`].
pub(super) fn decode(input: &[u8], values_max: usize) -> Result<(Vec<Value>, usize), AmfError> {
    let mut decoder =
        Decoder { reader: ByteReader::new(input), budget: Budget::new(input), objects: 0 };
    let mut values = Vec::new();
    while values.len() < values_max && decoder.reader.remaining() > 0 {
        values.push(decoder.value(0)?);
    }
    Ok((values, decoder.reader.position()))
}

struct Decoder<'a> {
    reader: ByteReader<'a>,
    budget: Budget,
    /// Objects and arrays seen so far: what a reference may point at.
    objects: u32,
}

impl Decoder<'_> {
    fn value(&mut self, depth: usize) -> Result<Value, AmfError> {
        self.budget.take_value()?;
        let marker = self.reader.u8().ok_or(AmfError::Truncated)?;
        match marker {
            NUMBER => self.reader.f64().map(Value::Number).ok_or(AmfError::Truncated),
            BOOLEAN => {
                self.reader.u8().map(|byte| Value::Bool(byte != 0)).ok_or(AmfError::Truncated)
            }
            STRING => self.short_text().map(Value::Text),
            LONG_STRING => self.long_text().map(Value::Text),
            XML_DOCUMENT => self.long_text().map(Value::Xml),
            NULL => Ok(Value::Null),
            UNDEFINED | UNSUPPORTED => Ok(Value::Undefined),
            REFERENCE => self.reference(),
            DATE => {
                let milliseconds = self.reader.f64().ok_or(AmfError::Truncated)?;
                self.reader.u16().ok_or(AmfError::Truncated)?;
                Ok(Value::Date(milliseconds))
            }
            OBJECT => self.properties(depth).map(Value::Object),
            TYPED_OBJECT => {
                self.short_text()?;
                self.properties(depth).map(Value::Object)
            }
            ECMA_ARRAY => {
                // The count is a hint that encoders get wrong; the end marker decides.
                self.reader.u32().ok_or(AmfError::Truncated)?;
                self.properties(depth).map(Value::EcmaArray)
            }
            STRICT_ARRAY => self.strict_array(depth).map(Value::StrictArray),
            AVMPLUS => amf3::decode(&mut self.reader, &mut self.budget, depth),
            _ => Err(AmfError::UnknownMarker(marker)),
        }
    }

    fn reference(&mut self) -> Result<Value, AmfError> {
        let index = u32::from(self.reader.u16().ok_or(AmfError::Truncated)?);
        if index < self.objects { Ok(Value::Null) } else { Err(AmfError::BadReference(index)) }
    }

    fn enter(&mut self, depth: usize) -> Result<usize, AmfError> {
        self.objects = self.objects.saturating_add(1);
        if depth >= DEPTH_MAX { Err(AmfError::TooDeep) } else { Ok(depth + 1) }
    }

    fn properties(&mut self, depth: usize) -> Result<Vec<(String, Value)>, AmfError> {
        let depth = self.enter(depth)?;
        let mut properties = Vec::new();
        loop {
            // Some encoders leave the end marker of the last object out.
            if self.reader.remaining() == 0 {
                return Ok(properties);
            }
            let name = self.short_text()?;
            if name.is_empty() {
                match self.reader.peek() {
                    Some(OBJECT_END) => {
                        self.reader.u8();
                        return Ok(properties);
                    }
                    Some(_) => {}
                    None => return Ok(properties),
                }
            }
            properties.push((name, self.value(depth)?));
        }
    }

    fn strict_array(&mut self, depth: usize) -> Result<Vec<Value>, AmfError> {
        let depth = self.enter(depth)?;
        let count = self.reader.u32().ok_or(AmfError::Truncated)? as usize;
        // The shortest value is its marker alone.
        if count > self.reader.remaining() {
            return Err(AmfError::Truncated);
        }
        if count > self.budget.values {
            return Err(AmfError::TooManyValues);
        }
        (0..count).map(|_| self.value(depth)).collect()
    }

    fn short_text(&mut self) -> Result<String, AmfError> {
        let length = usize::from(self.reader.u16().ok_or(AmfError::Truncated)?);
        self.text(length)
    }

    fn long_text(&mut self) -> Result<String, AmfError> {
        let length = self.reader.u32().ok_or(AmfError::Truncated)? as usize;
        self.text(length)
    }

    fn text(&mut self, length: usize) -> Result<String, AmfError> {
        let bytes = self.reader.bytes(length).ok_or(AmfError::Truncated)?;
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }
}

/// Appends one value; `depth` is how many levels may still be opened.
pub(super) fn encode(value: &Value, depth: usize, out: &mut Vec<u8>) {
    match value {
        Value::Number(number) => {
            out.push(NUMBER);
            out.extend_from_slice(&number.to_be_bytes());
        }
        Value::Bool(value) => out.extend_from_slice(&[BOOLEAN, u8::from(*value)]),
        Value::Text(text) => encode_text(text.as_bytes(), out),
        Value::Bytes(bytes) => encode_text(String::from_utf8_lossy(bytes).as_bytes(), out),
        Value::Xml(text) => encode_long(XML_DOCUMENT, text.as_bytes(), out),
        Value::Null => out.push(NULL),
        Value::Undefined => out.push(UNDEFINED),
        Value::Date(milliseconds) => {
            out.push(DATE);
            out.extend_from_slice(&milliseconds.to_be_bytes());
            out.extend_from_slice(&[0, 0]);
        }
        Value::Object(_) | Value::EcmaArray(_) | Value::StrictArray(_) if depth == 0 => {
            out.push(NULL);
        }
        Value::Object(properties) => {
            out.push(OBJECT);
            encode_properties(properties, depth - 1, out);
        }
        Value::EcmaArray(properties) => {
            out.push(ECMA_ARRAY);
            out.extend_from_slice(&count(properties.len()).to_be_bytes());
            encode_properties(properties, depth - 1, out);
        }
        Value::StrictArray(values) => {
            out.push(STRICT_ARRAY);
            out.extend_from_slice(&count(values.len()).to_be_bytes());
            for value in values {
                encode(value, depth - 1, out);
            }
        }
    }
}

fn encode_properties(properties: &[(String, Value)], depth: usize, out: &mut Vec<u8>) {
    for (name, value) in properties {
        let mut end = name.len().min(usize::from(u16::MAX));
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        out.extend_from_slice(&u16::try_from(end).unwrap_or(0).to_be_bytes());
        out.extend_from_slice(&name.as_bytes()[..end]);
        encode(value, depth, out);
    }
    out.extend_from_slice(&[0, 0, OBJECT_END]);
}

fn encode_text(text: &[u8], out: &mut Vec<u8>) {
    match u16::try_from(text.len()) {
        Ok(length) => {
            out.push(STRING);
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(text);
        }
        Err(_) => encode_long(LONG_STRING, text, out),
    }
}

fn encode_long(marker: u8, text: &[u8], out: &mut Vec<u8>) {
    let length = count(text.len());
    out.push(marker);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&text[..length as usize]);
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
