//! Lists in pages: how many, and from where on.

use protocols::text::{hex, unhex};

use super::Call;
use super::problem::Problem;

/// Items of a page unless a request says otherwise.
pub(super) const LIMIT: usize = 100;
/// Most items of a page.
pub(super) const LIMIT_MAX: usize = 1000;
/// Largest number that every reader of JSON takes (RFC 8259, 6).
pub(super) const NUMBER_MAX: u64 = (1 << 53) - 1;
/// Pattern of a cursor of sorted names.
pub(super) const NAME_CURSOR: &str = "^([0-9a-f]{2}){1,1024}$";
/// Pattern of a cursor of sessions.
pub(super) const PLACE_CURSOR: &str = "^[0-9]{1,4}-[0-9]{1,9}$";

impl Call<'_> {
    /// How many items are wanted.
    pub(super) fn limit(&self, usual: usize, max: usize) -> Result<usize, Problem> {
        let Some(text) = self.query("limit") else { return Ok(usual) };
        let limit = text.parse::<usize>().ok().filter(|limit| (1..=max).contains(limit));
        limit.ok_or_else(|| Problem::bad_request(format!("limit is a number from 1 to {max}")))
    }

    /// Where the page begins, in sessions.
    pub(super) fn place(&self) -> Result<(u16, u32), Problem> {
        let Some(text) = self.query("cursor") else { return Ok((0, 0)) };
        let plain = |text: &str, digits| {
            text.len() <= digits && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        let parts = text.split_once('-').filter(|(a, b)| plain(a, 4) && plain(b, 9));
        let place =
            parts.and_then(|(shard, place)| Some((shard.parse().ok()?, place.parse().ok()?)));
        place.ok_or_else(wrong_cursor)
    }
}

pub(super) fn wrong_cursor() -> Problem {
    Problem::bad_request("cursor is none that an answer has given as next")
}

/// One page of sorted items, told apart by `key`, and the cursor of the next one.
pub(super) fn page<T>(
    call: &Call<'_>,
    items: Vec<T>,
    key: impl Fn(&T) -> Vec<u8>,
) -> Result<(Vec<T>, Option<String>), Problem> {
    let limit = call.limit(LIMIT, LIMIT_MAX)?;
    let after = match call.query("cursor") {
        None => Vec::new(),
        Some(text) => bytes_of(&text).ok_or_else(wrong_cursor)?,
    };
    let mut left = items.into_iter().filter(|item| after.is_empty() || key(item) > after);
    let page: Vec<T> = left.by_ref().take(limit).collect();
    let more = left.next().is_some();
    let next = page.last().filter(|_| more).map(|item| hex(&key(item)));
    Ok((page, next))
}

fn bytes_of(cursor: &str) -> Option<Vec<u8>> {
    let plain = cursor.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !plain || cursor.is_empty() || cursor.len() > 2048 {
        return None;
    }
    unhex(cursor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_bytes_in_hexadecimal() {
        assert_eq!(bytes_of(&hex(b"\0a\xff")), Some(b"\0a\xff".to_vec()));
        for text in ["", "0", "0g", "AB", "+1"] {
            assert_eq!(bytes_of(text), None, "{text}");
        }
    }
}
