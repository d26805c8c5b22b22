//! Bounded readers over untrusted bytes: whole bytes, and bits of a NAL unit.

mod bit_reader;
mod byte_reader;

pub use bit_reader::{BitReader, unescape};
pub use byte_reader::ByteReader;
