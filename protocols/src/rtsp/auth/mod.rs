//! HTTP authentication as RTSP uses it: Basic and Digest (RFC 2617, RFC 7616), both ends.

pub mod client;
pub mod digest;
pub mod server;

use super::transport::split_quoted;

/// Parameters one header may have.
const PARAMETERS_MAX: usize = 24;

/// A challenge or credentials: scheme and parameters (RFC 2617 1.2).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Parsed<'a> {
    /// Lower case.
    scheme: String,
    /// What follows the scheme.
    rest: &'a str,
    /// Names in lower case, values without quotes.
    parameters: Vec<(String, String)>,
}

impl<'a> Parsed<'a> {
    fn parse(header: &'a str) -> Self {
        let header = header.trim();
        let (scheme, rest) = header.split_once(' ').unwrap_or((header, ""));
        let parameters = split_quoted(rest, ',')
            .take(PARAMETERS_MAX)
            .filter_map(|part| part.split_once('='))
            .map(|(name, value)| (name.trim().to_ascii_lowercase(), unquoted(value.trim())))
            .collect();
        Self { scheme: scheme.to_ascii_lowercase(), rest: rest.trim(), parameters }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }
}

fn unquoted(value: &str) -> String {
    match value.strip_prefix('"').and_then(|inside| inside.strip_suffix('"')) {
        Some(inside) => {
            let mut escaped = false;
            inside
                .chars()
                .filter(|character| {
                    escaped = *character == '\\' && !escaped;
                    !escaped
                })
                .collect()
        }
        None => value.to_owned(),
    }
}

/// A quoted string (RFC 2616 2.2).
fn quoted(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    out.push('"');
    for character in value.chars().filter(|character| !character.is_control()) {
        if matches!(character, '"' | '\\') {
            out.push('\\');
        }
        out.push(character);
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_with_and_without_quotes() {
        let parsed = Parsed::parse(r#" Digest realm="a, \"b\"" ,QOP=auth,nonce="", x"#);
        assert_eq!(parsed.scheme, "digest");
        assert_eq!(parsed.get("realm"), Some(r#"a, "b""#));
        assert_eq!(
            (parsed.get("qop"), parsed.get("nonce"), parsed.get("x")),
            (Some("auth"), Some(""), None)
        );
        assert_eq!(quoted("a\"\\\r\n"), r#""a\"\\""#);
        assert_eq!(unquoted(&quoted("a\"\\b")), "a\"\\b");
        assert_eq!(Parsed::parse("").scheme, "");
    }
}
