//! Writing a URI into a text format so that no byte of it can end the field it stands in, and
//! reading its escapes.

/// Bytes of a URI (RFC 3986 2) that pass as they are. `#` is left out: nothing this server names
/// has a fragment, and a line that begins with it would be a tag or a comment.
fn passes(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:/?[]@!$&'()*+,;=%".contains(&byte)
}

/// Appends the URI reference `uri` and gives it the further query `query` (no leading `?`; empty:
/// none). Any byte that cannot stand in a URI is percent-encoded; existing escapes stay. In the
/// query `$` is encoded as well, because a DASH template would read it as an identifier.
pub fn push_uri(out: &mut String, uri: &str, query: &str) {
    uri.bytes().for_each(|byte| push_byte(out, byte, passes(byte)));
    let query = query.trim_start_matches(['?', '&']);
    if !query.is_empty() {
        out.push(if uri.contains('?') { '&' } else { '?' });
        query.bytes().for_each(|byte| push_byte(out, byte, passes(byte) && byte != b'$'));
    }
}

/// Appends a byte of a URI as it is, or as an escape (RFC 3986 2.1).
pub fn push_byte(out: &mut String, byte: u8, passes: bool) {
    const HEX: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    if passes {
        out.push(char::from(byte));
    } else {
        out.extend(['%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 0x0F)]]);
    }
}

/// Decodes `%XX` once; `None` for a broken escape or when the result is not UTF-8.
pub fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let high = char::from(rest.next()?).to_digit(16)?;
            let low = char::from(rest.next()?).to_digit(16)?;
            bytes.push((high * 16 + low) as u8);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pushed(uri: &str, query: &str) -> String {
        let mut out = String::new();
        push_uri(&mut out, uri, query);
        out
    }

    #[test]
    fn a_query_is_joined_to_what_is_there() {
        assert_eq!(pushed("a.m4s", ""), "a.m4s");
        assert_eq!(pushed("a.m4s", "token=1&b=2"), "a.m4s?token=1&b=2");
        assert_eq!(pushed("a.m4s", "?token=1"), "a.m4s?token=1");
        assert_eq!(pushed("a.m4s?x=y", "token=1"), "a.m4s?x=y&token=1");
    }

    #[test]
    fn nothing_ends_a_line_a_quote_or_a_tag() {
        assert_eq!(pushed("#a\"\r\n<b> ü%20", ""), "%23a%22%0D%0A%3Cb%3E%20%C3%BC%20");
        assert_eq!(pushed("$Number$.m4s", "t=$Time$\n#EXT"), "$Number$.m4s?t=%24Time%24%0A%23EXT");
    }

    #[test]
    fn escapes_are_read_once() {
        assert_eq!(percent_decode("a%20%c3%bcb").as_deref(), Some("a üb"));
        assert_eq!(percent_decode("%252e").as_deref(), Some("%2e"), "once only");
        for bad in ["%", "%4", "%zz", "%ff", "%+1"] {
            assert_eq!(percent_decode(bad), None, "{bad}");
        }
    }
}
