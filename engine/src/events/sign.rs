//! The signature of a callback.

use hmac::{Hmac, Mac as _};
use protocols::text::hex;
use sha2::Sha256;

/// HMAC-SHA256 (RFC 2104) of `TIMESTAMP.BODY`, as the header carries it: `sha256=HEX`. Whoever
/// checks it should refuse old timestamps, so that nothing that was overheard can be sent again.
#[must_use]
pub fn signature(secret: &str, timestamp: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes())
        .expect("a key of any length is taken (RFC 2104, 2)");
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(body);
    format!("sha256={}", hex(&mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_another_implementation() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac secret
        assert_eq!(
            signature("secret", "1700000000", b"{\"a\":1}"),
            "sha256=49f24e537407743fa4a0242bb63b94b9a47ee99cbbe071ccd8a22550ae411686"
        );
        assert_ne!(signature("secret", "1", b"23"), signature("secret", "12", b"3"));
    }
}
