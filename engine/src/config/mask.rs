//! What is shown of a secret, and the secret again when what was shown comes back.

/// Stands for what is not shown.
const HIDDEN: &str = "***";

/// How much of a value is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// All of it: it is no secret.
    Whole,
    /// `NAME:PASSWORD`: the name.
    Name,
    /// An URL, or `file:NAME`: all but user, password and query.
    Address,
    /// An URL whose last segment is a key: that is left out too.
    AddressWithKey,
    /// Nothing.
    Nothing,
}

impl Shown {
    /// Some of a value is not shown.
    #[must_use]
    pub fn hides(self) -> bool {
        self != Self::Whole
    }

    /// What is shown of a value.
    #[must_use]
    pub fn of(self, text: &str) -> String {
        match self {
            Self::Whole => text.to_owned(),
            Self::Name => match text.split_once(':') {
                Some((name, _)) if !name.is_empty() => format!("{name}:{HIDDEN}"),
                _ => HIDDEN.to_owned(),
            },
            Self::Address | Self::AddressWithKey
                if text.is_empty() || text.contains("://") || text.starts_with("file:") =>
            {
                mask_url(text, self == Self::AddressWithKey)
            }
            Self::Address | Self::AddressWithKey | Self::Nothing => HIDDEN.to_owned(),
        }
    }

    /// A value holds what stands for something that was not shown.
    fn is_masked(self, text: &str) -> bool {
        match self {
            Self::Whole => false,
            Self::Name => text.split_once(':').map_or(text, |(_, password)| password) == HIDDEN,
            Self::Address | Self::AddressWithKey => text.contains(HIDDEN),
            Self::Nothing => text == HIDDEN,
        }
    }
}

/// Why a value cannot be told from what was shown of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unmasked {
    /// There is none that is shown so.
    #[error("*** stands for a part that is not shown, and no value is shown so: give all of it")]
    Unknown,
    /// Several are shown so, and not all of them have come back.
    #[error("several values are shown alike, and which of them are to stay cannot be told")]
    Ambiguous,
}

/// An URL without user, password and query; without its last segment too where that is a key.
pub(crate) fn mask_url(url: &str, last_is_key: bool) -> String {
    let mut shown = crate::pull::masked(url);
    if last_is_key {
        let end = shown.find('?').unwrap_or(shown.len());
        let start = shown.find("://").map_or(0, |at| at + 3);
        let path = shown.get(start..end).unwrap_or_default();
        let named = path.trim_end_matches('/');
        // A slash at the end may be that of an app, which is no key.
        let is_app = named.len() < path.len() && named.matches('/').count() < 2;
        if let Some(slash) = named.rfind('/').filter(|_| !is_app) {
            shown.replace_range(start + slash + 1..start + named.len(), HIDDEN);
        }
    }
    shown
}

/// New values with those that come back as they were shown made the old ones again; each old one
/// serves once.
pub(crate) fn masked_back(
    shown: Shown,
    new: &[String],
    old: &[&str],
) -> Result<Vec<String>, Unmasked> {
    let mut left: Vec<(String, &str)> = old
        .iter()
        .map(|old| (shown.of(old), *old))
        .filter(|(mask, _)| shown.is_masked(mask))
        .collect();
    let mut values = Vec::with_capacity(new.len());
    for value in new {
        match left.iter().position(|(mask, _)| mask == value) {
            Some(at) => values.push(left.remove(at).1.to_owned()),
            None if shown.is_masked(value) => return Err(Unmasked::Unknown),
            None => values.push(value.clone()),
        }
    }
    if left.iter().any(|(mask, _)| new.contains(mask)) {
        return Err(Unmasked::Ambiguous);
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_is_left() {
        for (shown, text, visible) in [
            (Shown::Whole, "a:b://c?d", "a:b://c?d"),
            (Shown::Name, "ann:pass:word", "ann:***"),
            (Shown::Name, "ann:a://b", "ann:***"),
            (Shown::Name, "password", "***"),
            // Whatever they look like.
            (Shown::Nothing, "pass:word", "***"),
            (Shown::Nothing, "half://secret", "***"),
            (Shown::Address, "https://u:p@h:1/a?token=x", "https://***@h:1/a?***"),
            (Shown::Address, "file:film.mp4", "file:film.mp4"),
            (Shown::Address, "token@h/a", "***"),
            (Shown::AddressWithKey, "rtmps://h/app/key", "rtmps://h/app/***"),
            (Shown::AddressWithKey, "rtmps://u:p@h/app/key?x=1", "rtmps://***@h/app/***?***"),
            (Shown::AddressWithKey, "rtmps://h/app/", "rtmps://h/app/"),
            (Shown::AddressWithKey, "rtmps://h/app/key/", "rtmps://h/app/***/"),
            (Shown::AddressWithKey, "rtmps://h/app/key//?x=1", "rtmps://h/app/***//?***"),
            (Shown::AddressWithKey, "", ""),
        ] {
            assert_eq!(shown.of(text), visible, "{text}");
        }
    }

    #[test]
    fn each_comes_back_once() {
        let back = |shown, new: &[&str], old: &[&str]| {
            let new: Vec<String> = new.iter().map(|value| (*value).to_owned()).collect();
            masked_back(shown, &new, old).map(|values| values.join(" "))
        };
        let (name, nothing, address) = (Shown::Name, Shown::Nothing, Shown::Address);
        let users = ["ann:one", "bob:two"];
        assert_eq!(
            back(name, &["bob:***", "eve:x", "ann:***"], &users).unwrap(),
            "bob:two eve:x ann:one"
        );
        assert_eq!(back(name, &["bob:***"], &users).unwrap(), "bob:two");
        assert_eq!(back(nothing, &["***", "new", "***"], &["one", "two"]).unwrap(), "one new two");
        assert_eq!(back(address, &["http://h/?***"], &["http://h/?k"]).unwrap(), "http://h/?k");
        // Three stars are never written as a value.
        for (shown, new) in
            [(name, "eve:***"), (name, "***"), (nothing, "***"), (address, "http://***@i/?k=1")]
        {
            assert_eq!(back(shown, &[new], &[]), Err(Unmasked::Unknown), "{new}");
        }
        assert_eq!(back(nothing, &["***", "***"], &["one"]), Err(Unmasked::Unknown));
        assert_eq!(back(nothing, &["***"], &["one", "two"]), Err(Unmasked::Ambiguous));
        assert_eq!(back(nothing, &["a***b"], &["one"]).unwrap(), "a***b");
    }
}
