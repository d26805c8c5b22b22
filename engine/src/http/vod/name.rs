//! Which names files on demand may have. Pure.

/// Longest path below the folder.
const PATH_BYTES_MAX: usize = 1024;
/// Longest component of a path on every file system in use.
const COMPONENT_BYTES_MAX: usize = 255;

/// A path of one or more components, each of which [`is_component`].
pub(super) fn is_path(path: &str) -> bool {
    path.len() <= PATH_BYTES_MAX && path.split('/').all(is_component)
}

/// A name that may be served: not empty, not hidden and so no `..`, nothing a terminal or another
/// system takes for more than a name.
pub(super) fn is_component(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && name.len() <= COMPONENT_BYTES_MAX
        && !name.chars().any(|c| c.is_control() || matches!(c, '/' | '\\'))
}

/// The name for a file that its sender calls `sent`, perhaps with a path in front as some senders
/// do; `None` if it cannot be one.
pub(super) fn of_upload(sent: &str) -> Option<&str> {
    let name = sent.rsplit(['/', '\\']).next()?.trim();
    // Directions within a name would show another ending than it has.
    let deceives = |c: char| matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    (is_component(name) && !name.contains(deceives)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_could_lead_elsewhere_are_none() {
        for good in ["a.mp4", "a/b/c d.ts", "路/径.mp4", "a..b", "%2e%2e"] {
            assert!(is_path(good), "{good}");
        }
        let long = "x".repeat(256);
        let deep = "x/".repeat(600) + "x";
        for bad in [
            "", "/", "a/", "/a", "a//b", ".", "..", "../a", "a/../b", ".a", "a/.b", "a\\b", "a\0",
            "a\nb", "a\u{85}", &long, &deep,
        ] {
            assert!(!is_path(bad), "{bad:?}");
        }
    }

    #[test]
    fn uploads_lose_the_path_of_their_sender() {
        assert_eq!(of_upload("a.mp4"), Some("a.mp4"));
        assert_eq!(of_upload("C:\\films\\a.mp4"), Some("a.mp4"));
        assert_eq!(of_upload("../../etc/passwd"), Some("passwd"));
        for bad in ["", "..", "a/", ".hidden", "a/..", "x\u{202e}4pm.exe", "a\r\nb", "\\"] {
            assert_eq!(of_upload(bad), None, "{bad:?}");
        }
    }
}
