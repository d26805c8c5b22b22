//! Boxes as they are written: a size that is known at the end, a name, and a body.

use bytes::BufMut;

/// Appends a box whose body `body` appends (4.2).
pub(super) fn write_box(out: &mut Vec<u8>, name: &[u8; 4], body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.put_u32(0);
    out.put_slice(name);
    body(out);
    // Only boxes of an initialisation segment or an index are written here; none nears 4 GiB.
    let size = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&size.to_be_bytes());
    }
}

/// Appends a box with version and flags.
pub(super) fn write_full_box(
    out: &mut Vec<u8>,
    name: &[u8; 4],
    version: u8,
    flags: u32,
    body: impl FnOnce(&mut Vec<u8>),
) {
    write_box(out, name, |out| {
        out.put_u32(u32::from(version) << 24 | flags & 0x00ff_ffff);
        body(out);
    });
}

/// Appends a box with version and flags 0 and this body.
pub(super) fn write_plain(out: &mut Vec<u8>, name: &[u8; 4], body: &[u8]) {
    write_full_box(out, name, 0, 0, |out| out.put_slice(body));
}

/// Appends `ftyp` or `styp`: the first brand is the major one, and all are compatible ones.
pub(super) fn write_brands(out: &mut Vec<u8>, name: &[u8; 4], brands: &[[u8; 4]]) {
    write_box(out, name, |out| {
        out.put_slice(brands.first().unwrap_or(b"iso6"));
        out.put_u32(0);
        for brand in brands {
            out.put_slice(brand);
        }
    });
}

/// Appends 16-bit fields.
pub(super) fn put_u16s(out: &mut Vec<u8>, fields: &[u16]) {
    fields.iter().for_each(|field| out.put_u16(*field));
}

/// Appends 32-bit fields.
pub(super) fn put_u32s(out: &mut Vec<u8>, fields: &[u32]) {
    fields.iter().for_each(|field| out.put_u32(*field));
}
