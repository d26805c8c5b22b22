//! URLs of media protocols taken apart and resolved. Nothing is decoded but user information, and
//! nothing judged.

use super::percent_decode;

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

/// User information of an authority as it is written, if there is any, and the host with its port.
/// A password with an `@` that should have been escaped is taken for what it is meant to be.
pub fn split_user(authority: &str) -> (Option<&str>, &str) {
    match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    }
}

/// Name and password of user information (RFC 3986 3.2.1), their escapes read. One whose escapes
/// make no sense is taken as it is written: some people escape nothing.
pub fn credentials(user: &str) -> (String, String) {
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let read = |text: &str| percent_decode(text).unwrap_or_else(|| text.to_owned());
    (read(name), read(password))
}

/// The URL without user information, and that.
pub fn without_user(url: &str) -> (String, Option<&str>) {
    let Some((scheme, rest)) = url.split_once("://") else { return (url.to_owned(), None) };
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (user, host) = split_user(authority);
    (format!("{scheme}://{host}{path}"), user)
}

/// A reference resolved against the URL it was found at (RFC 3986 5.2), as `Location` has it: an
/// absolute one is itself. User information of the base stays behind, and there are no fragments.
pub fn resolve_reference(base: &str, reference: &str) -> String {
    let is_scheme = |text: &str| {
        text.starts_with(|first: char| first.is_ascii_alphabetic())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    };
    let reference = reference.split('#').next().unwrap_or_default();
    if reference.split_once(':').is_some_and(|(scheme, _)| is_scheme(scheme)) {
        return reference.to_owned();
    }
    let scheme = base.split_once("://").map_or("", |(scheme, _)| scheme);
    if let Some(rest) = reference.strip_prefix("//") {
        return format!("{scheme}://{rest}");
    }
    let (authority, base_path, base_query) = split_url(base);
    let (_, host) = split_user(authority);
    let (path, query) = split_query(reference);
    let joined = match (path.strip_prefix('/'), base_path.rsplit_once('/')) {
        (Some(absolute), _) => absolute.to_owned(),
        (None, _) if path.is_empty() => base_path.to_owned(),
        (None, Some((folder, _))) => format!("{folder}/{path}"),
        (None, None) => path.to_owned(),
    };
    let query = if reference.is_empty() { base_query } else { query };
    let mark = if query.is_empty() { "" } else { "?" };
    format!("{scheme}://{host}/{}{mark}{query}", without_dots(&joined))
}

/// A path without `.` and `..` (RFC 3986 5.2.4).
fn without_dots(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    if matches!(path.rsplit('/').next(), Some("." | "..")) {
        parts.push("");
    }
    parts.join("/")
}

/// Host and port of an authority; user information is cut off, IPv6 literals lose their brackets.
pub fn split_authority(authority: &str) -> (&str, Option<u16>) {
    let (_, authority) = split_user(authority);
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

    #[test]
    fn users_are_split_off_and_read() {
        assert_eq!(split_user("u:p@ss@h:1"), (Some("u:p@ss"), "h:1"));
        assert_eq!(split_user("h"), (None, "h"));
        let read = |user| credentials(user);
        assert_eq!(read("a%40b:c%3Ad:e"), ("a@b".to_owned(), "c:d:e".to_owned()));
        assert_eq!(read("a"), ("a".to_owned(), String::new()));
        assert_eq!(read("a:100%"), ("a".to_owned(), "100%".to_owned()));
        let (url, user) = without_user("rtsp://u:p@h:8554/live/x?a=@b");
        assert_eq!((&*url, user), ("rtsp://h:8554/live/x?a=@b", Some("u:p")));
        assert_eq!(without_user("rtsp://h?a=@b"), ("rtsp://h?a=@b".to_owned(), None));
    }

    /// Examples of RFC 3986 5.4.1, without fragments and parameters.
    #[test]
    fn references_are_resolved() {
        for (reference, expected) in [
            ("g:h", "g:h"),
            ("g", "http://a/b/c/g"),
            ("./g", "http://a/b/c/g"),
            ("g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g", "http://g"),
            ("?y", "http://a/b/c/d;p?y"),
            ("g?y", "http://a/b/c/g?y"),
            ("", "http://a/b/c/d;p?q"),
            (".", "http://a/b/c/"),
            ("..", "http://a/b/"),
            ("../g", "http://a/b/g"),
            ("../../../g", "http://a/g"),
            ("g#s", "http://a/b/c/g"),
            ("http://i:1/x", "http://i:1/x"),
        ] {
            assert_eq!(resolve_reference("http://u:p@a/b/c/d;p?q", reference), expected);
        }
        assert_eq!(resolve_reference("rtsp://h", "x"), "rtsp://h/x");
        assert_eq!(resolve_reference("rtsp://h:1/a", "/x:y"), "rtsp://h:1/x:y");
    }
}
