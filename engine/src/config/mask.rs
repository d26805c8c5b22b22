//! What is shown of a secret, and the secret again when what was shown comes back.

/// Stands for what is not shown.
const HIDDEN: &str = "***";

/// What is shown of an option that holds a secret: a name, or the address of an URL.
pub(super) fn mask(text: &str) -> String {
    if text.contains("://") {
        return mask_url(text, false);
    }
    match text.split_once(':') {
        Some((name, _)) if !name.is_empty() => format!("{name}:{HIDDEN}"),
        _ => HIDDEN.to_owned(),
    }
}

/// An URL without user, password and query; without its last segment too where that is a key.
pub(crate) fn mask_url(url: &str, last_is_key: bool) -> String {
    let mut shown = crate::pull::masked(url);
    if last_is_key {
        let end = shown.find('?').unwrap_or(shown.len());
        let start = shown.find("://").map_or(0, |at| at + 3);
        let path = shown.get(start..end).unwrap_or_default();
        if let Some(slash) = path.rfind('/')
            && slash + 1 < path.len()
        {
            shown.replace_range(start + slash + 1..end, HIDDEN);
        }
    }
    shown
}

/// New values with those that come back as they were shown made the old ones again; each old one
/// serves once.
pub(crate) fn masked_back(
    new: &[String],
    old: &[&str],
    mask: impl Fn(&str) -> String,
) -> Vec<String> {
    let mut left: Vec<&str> = old.to_vec();
    let mut take = |shown: &String| {
        let at = left.iter().position(|old| shown.contains(HIDDEN) && mask(old) == *shown)?;
        Some(left.remove(at).to_owned())
    };
    new.iter().map(|shown| take(shown).unwrap_or_else(|| shown.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_is_left() {
        assert_eq!(mask("ann:pass:word"), "ann:***");
        assert_eq!(mask("password"), "***");
        assert_eq!(mask("https://u:p@h:1/a?token=x"), "https://***@h:1/a?***");
        assert_eq!(mask_url("rtmps://h/app/key", true), "rtmps://h/app/***");
        assert_eq!(mask_url("rtmps://u:p@h/app/key?x=1", true), "rtmps://***@h/app/***?***");
        assert_eq!(mask_url("rtmps://h/app/", true), "rtmps://h/app/");
    }

    #[test]
    fn each_comes_back_once() {
        let new = ["***", "a:***", "***"].map(str::to_owned);
        let back = masked_back(&new, &["one", "a:two", "three"], mask);
        assert_eq!(back, ["one", "a:two", "three"]);
        let back = masked_back(&["***".to_owned(), "***".to_owned()], &["one"], mask);
        assert_eq!(back, ["one", "***"]);
    }
}
