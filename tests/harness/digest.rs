//! Digests and the alphabets they are written in.

use std::process::Command;

/// Lower-case hex of the MD5 of a text, by `md5sum`.
pub fn md5(text: &str) -> String {
    let script = "printf %s \"$1\" | md5sum";
    let out = Command::new("sh").args(["-c", script, "sh", text]).output().expect("a shell");
    String::from_utf8_lossy(&out.stdout).split(' ').next().unwrap_or_default().to_owned()
}

/// Base64 of the MD5 of a text.
pub fn md5_base64(text: &str) -> String {
    let hex = md5(text);
    let pairs = hex.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).expect("ASCII"));
    let bytes: Vec<u8> =
        pairs.map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal")).collect();
    base64(bytes)
}

/// Base64, padded.
pub fn base64(bytes: impl AsRef<[u8]>) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in bytes.as_ref().chunks(3) {
        let byte = |at: usize| group.get(at).copied().unwrap_or(0);
        let number = u32::from_be_bytes([0, byte(0), byte(1), byte(2)]);
        for place in 0..4 {
            let sextet = (number >> (18 - 6 * place)) & 63;
            let padding = place > group.len();
            out.push(if padding { '=' } else { char::from(ALPHABET[sextet as usize]) });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 1321, A.5, and RFC 4648, 10.
    #[test]
    fn vectors() {
        assert_eq!(md5("abc"), "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(md5_base64("abc"), "kAFQmDzST7DWlj99KOF/cg==");
        assert_eq!(["", "f", "fo", "foo"].map(base64), ["", "Zg==", "Zm8=", "Zm9v"]);
    }
}
