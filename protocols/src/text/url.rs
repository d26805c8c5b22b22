//! URLs of media protocols taken apart. Nothing is decoded or judged.

/// The value of the first non-empty parameter of that name.
pub fn query_parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, value)| *key == name && !value.is_empty())
        .map(|(_, value)| value)
}

/// Authority, path and query of `scheme://authority/path?query`; a bare path has no authority.
pub fn split_url(url: &str) -> (&str, &str, &str) {
    let Some((_, rest)) = url.split_once("://") else {
        let (path, query) = split_query(url);
        return ("", path, query);
    };
    let (before, query) = split_query(rest);
    let (authority, path) = before.split_once('/').unwrap_or((before, ""));
    (authority, path, query)
}

/// What stands before and behind the first `?`.
pub fn split_query(text: &str) -> (&str, &str) {
    text.split_once('?').unwrap_or((text, ""))
}

/// Host and port of an authority; user information is cut off, IPv6 literals lose their brackets.
pub fn split_authority(authority: &str) -> (&str, Option<u16>) {
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if let Some((host, after)) =
        authority.strip_prefix('[').and_then(|inside| inside.split_once(']'))
    {
        return (host, after.strip_prefix(':').and_then(|port| port.parse().ok()));
    }
    match authority.split_once(':') {
        Some((host, port)) if !port.contains(':') => (host, port.parse().ok()),
        // More than one colon and no brackets: a bare IPv6 address.
        _ => (authority, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_every_form() {
        assert_eq!(split_url("rtsp://u:p@h:1/a/b?c=d?e"), ("u:p@h:1", "a/b", "c=d?e"));
        assert_eq!(split_url("/a/b?c"), ("", "/a/b", "c"));
        assert_eq!(split_url("rtsp://h?q"), ("h", "", "q"));
        assert_eq!(split_authority("u:p@h:1"), ("h", Some(1)));
        assert_eq!(split_authority("[::1]:554"), ("::1", Some(554)));
        assert_eq!(split_authority("fe80::1"), ("fe80::1", None));
        assert_eq!(split_authority("h:99999"), ("h", None));
        assert_eq!(query_parameter("a=&vhost=x&vhost=y", "vhost"), Some("x"));
        assert_eq!(query_parameter("vhost=", "vhost"), None);
    }
}
