//! `Basic` credentials (RFC 7617).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Name and password of what follows the scheme in `Authorization`; `None` if it is not base64 of
/// UTF-8 with a colon. A password may have colons, a name has none.
pub fn basic_credentials(encoded: &str) -> Option<(String, String)> {
    let text = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_colon_ends_the_name() {
        let pair = |name: &str, password: &str| Some((name.to_owned(), password.to_owned()));
        assert_eq!(basic_credentials("dTphOmI="), pair("u", "a:b"));
        assert_eq!(basic_credentials("Og=="), pair("", ""));
        for bad in ["", "!", "dQ==", "/zr/"] {
            assert_eq!(basic_credentials(bad), None, "{bad}");
        }
    }
}
