//! AMF3 on the wire (decode only), reached from AMF0 by the avmplus marker.
//!
//! The three reference tables live for one avmplus value. Texts are copied within a budget,
//! objects by reference become null, class descriptions are shared.

use std::rc::Rc;

use super::{AmfError, Budget, DEPTH_MAX, Value};
use crate::bits::ByteReader;

/// Most sealed members of one class.
const MEMBERS_MAX: usize = 256;

/// Decodes one AMF3 value at the reader.
pub(super) fn decode(
    reader: &mut ByteReader<'_>,
    budget: &mut Budget,
    depth: usize,
) -> Result<Value, AmfError> {
    let mut decoder =
        Decoder { reader, budget, texts: Vec::new(), objects: 0, classes: Vec::new() };
    decoder.value(depth)
}

struct Class {
    dynamic: bool,
    members: Vec<String>,
}

struct Decoder<'d, 'a> {
    reader: &'d mut ByteReader<'a>,
    budget: &'d mut Budget,
    texts: Vec<String>,
    objects: u32,
    classes: Vec<Rc<Class>>,
}

impl Decoder<'_, '_> {
    fn value(&mut self, depth: usize) -> Result<Value, AmfError> {
        let marker = self.reader.u8().ok_or(AmfError::Truncated)?;
        // The value itself was paid for by AMF0 at the top; nested ones pay before they come here.
        match marker {
            0x00 => Ok(Value::Undefined),
            0x01 => Ok(Value::Null),
            0x02 => Ok(Value::Bool(false)),
            0x03 => Ok(Value::Bool(true)),
            0x04 => {
                let raw = self.u29()?;
                let signed = (raw << 3).cast_signed() >> 3;
                Ok(Value::Number(f64::from(signed)))
            }
            0x05 => self.reader.f64().map(Value::Number).ok_or(AmfError::Truncated),
            0x06 => self.text().map(Value::Text),
            0x07 | 0x0b => Ok(match self.inline()? {
                Some(length) => Value::Xml(lossy(self.bytes(length)?)),
                None => Value::Null,
            }),
            0x08 => match self.inline()? {
                Some(_) => self.reader.f64().map(Value::Date).ok_or(AmfError::Truncated),
                None => Ok(Value::Null),
            },
            0x09 => self.array(depth),
            0x0a => self.object(depth),
            0x0c => Ok(match self.inline()? {
                Some(length) => Value::Bytes(self.bytes(length)?.to_vec()),
                None => Value::Null,
            }),
            0x0d..=0x0f => self.number_vector(marker, depth),
            0x10 => self.object_vector(depth),
            0x11 => self.dictionary(depth),
            _ => Err(AmfError::UnknownMarker(marker)),
        }
    }

    fn nested(&mut self, depth: usize) -> Result<Value, AmfError> {
        self.budget.take_value()?;
        self.value(depth)
    }

    /// Variable-length unsigned 29 bits (1.3.1).
    fn u29(&mut self) -> Result<u32, AmfError> {
        let mut value = 0u32;
        for _ in 0..3 {
            let byte = self.reader.u8().ok_or(AmfError::Truncated)?;
            value = value << 7 | u32::from(byte & 0x7f);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        let byte = self.reader.u8().ok_or(AmfError::Truncated)?;
        Ok(value << 8 | u32::from(byte))
    }

    /// The length of a complex value sent inline, which takes the next place in the object table;
    /// `None` for a valid reference.
    fn inline(&mut self) -> Result<Option<usize>, AmfError> {
        let header = self.u29()?;
        if header & 1 == 0 {
            let index = header >> 1;
            return if index < self.objects {
                Ok(None)
            } else {
                Err(AmfError::BadReference(index))
            };
        }
        self.objects = self.objects.saturating_add(1);
        Ok(Some((header >> 1) as usize))
    }

    fn bytes(&mut self, length: usize) -> Result<&[u8], AmfError> {
        self.reader.bytes(length).ok_or(AmfError::Truncated)
    }

    fn text(&mut self) -> Result<String, AmfError> {
        let header = self.u29()?;
        if header & 1 == 0 {
            let index = header >> 1;
            let text = self.texts.get(index as usize).ok_or(AmfError::BadReference(index))?;
            self.budget.take_copy(text.len())?;
            return Ok(text.clone());
        }
        let text = lossy(self.bytes((header >> 1) as usize)?);
        if !text.is_empty() && self.texts.len() < super::VALUES_MAX {
            self.texts.push(text.clone());
        }
        Ok(text)
    }

    /// A count of things that take at least `bytes_each` bytes, checked against what is left.
    fn check_count(&self, count: usize, bytes_each: usize) -> Result<usize, AmfError> {
        if count.saturating_mul(bytes_each) > self.reader.remaining() {
            Err(AmfError::Truncated)
        } else if count > self.budget.values {
            Err(AmfError::TooManyValues)
        } else {
            Ok(count)
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value, AmfError> {
        let Some(count) = self.inline()? else { return Ok(Value::Null) };
        let depth = enter(depth)?;
        let mut named = self.named_values(depth)?;
        let count = self.check_count(count, 1)?;
        let dense =
            (0..count).map(|_| self.nested(depth)).collect::<Result<Vec<Value>, AmfError>>()?;
        if named.is_empty() {
            return Ok(Value::StrictArray(dense));
        }
        named.extend(dense.into_iter().enumerate().map(|(i, value)| (i.to_string(), value)));
        Ok(Value::EcmaArray(named))
    }

    /// Name and value pairs up to the empty name.
    fn named_values(&mut self, depth: usize) -> Result<Vec<(String, Value)>, AmfError> {
        let mut named = Vec::new();
        loop {
            let name = self.text()?;
            if name.is_empty() {
                return Ok(named);
            }
            named.push((name, self.nested(depth)?));
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, AmfError> {
        let header = self.u29()?;
        if header & 1 == 0 {
            let index = header >> 1;
            return if index < self.objects {
                Ok(Value::Null)
            } else {
                Err(AmfError::BadReference(index))
            };
        }
        self.objects = self.objects.saturating_add(1);
        let depth = enter(depth)?;
        let class = self.class(header)?;
        let mut properties = Vec::new();
        for name in &class.members {
            self.budget.take_copy(name.len())?;
            properties.push((name.clone(), self.nested(depth)?));
        }
        if class.dynamic {
            properties.extend(self.named_values(depth)?);
        }
        Ok(Value::Object(properties))
    }

    /// The class of an object whose header (3.12) is not an object reference.
    fn class(&mut self, header: u32) -> Result<Rc<Class>, AmfError> {
        if header & 0b10 == 0 {
            let index = header >> 2;
            return self.classes.get(index as usize).cloned().ok_or(AmfError::BadReference(index));
        }
        if header & 0b100 != 0 {
            return Err(AmfError::Externalizable);
        }
        self.text()?;
        let count = self.check_count((header >> 4) as usize, 1)?;
        if count > MEMBERS_MAX {
            return Err(AmfError::TooManyValues);
        }
        let members = (0..count).map(|_| self.text()).collect::<Result<Vec<String>, AmfError>>()?;
        let class = Rc::new(Class { dynamic: header & 0b1000 != 0, members });
        if self.classes.len() < super::VALUES_MAX {
            self.classes.push(Rc::clone(&class));
        }
        Ok(class)
    }

    fn number_vector(&mut self, marker: u8, depth: usize) -> Result<Value, AmfError> {
        let Some(count) = self.inline()? else { return Ok(Value::Null) };
        enter(depth)?;
        self.reader.u8().ok_or(AmfError::Truncated)?;
        let count = self.check_count(count, if marker == 0x0f { 8 } else { 4 })?;
        let mut values = Vec::with_capacity(count);
        for _ in 0..count {
            self.budget.take_value()?;
            let number = match marker {
                0x0d => self.reader.u32().map(|value| f64::from(value.cast_signed())),
                0x0e => self.reader.u32().map(f64::from),
                _ => self.reader.f64(),
            };
            values.push(Value::Number(number.ok_or(AmfError::Truncated)?));
        }
        Ok(Value::StrictArray(values))
    }

    fn object_vector(&mut self, depth: usize) -> Result<Value, AmfError> {
        let Some(count) = self.inline()? else { return Ok(Value::Null) };
        let depth = enter(depth)?;
        self.reader.u8().ok_or(AmfError::Truncated)?;
        self.text()?;
        let count = self.check_count(count, 1)?;
        (0..count).map(|_| self.nested(depth)).collect::<Result<_, _>>().map(Value::StrictArray)
    }

    /// A dictionary keeps the entries whose key is a text or a number.
    fn dictionary(&mut self, depth: usize) -> Result<Value, AmfError> {
        let Some(count) = self.inline()? else { return Ok(Value::Null) };
        let depth = enter(depth)?;
        self.reader.u8().ok_or(AmfError::Truncated)?;
        let count = self.check_count(count, 2)?;
        let mut properties = Vec::new();
        for _ in 0..count {
            let key = self.nested(depth)?;
            let value = self.nested(depth)?;
            match key {
                Value::Text(name) => properties.push((name, value)),
                Value::Number(number) => properties.push((number.to_string(), value)),
                _ => {}
            }
        }
        Ok(Value::Object(properties))
    }
}

fn enter(depth: usize) -> Result<usize, AmfError> {
    if depth >= DEPTH_MAX { Err(AmfError::TooDeep) } else { Ok(depth + 1) }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
