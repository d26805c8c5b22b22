//! Short texts: cut to a length, bytes as digits.

/// The longest beginning of at most that many bytes that ends between characters.
pub fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// Lower-case hexadecimal digits, two for each byte.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0x0f)]).collect()
}

/// The bytes of hexadecimal digits of either case; `None` for anything else, an odd digit included.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text
        .chars()
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_character_is_cut() {
        for (bytes, kept) in [(0, ""), (1, "a"), (2, "a"), (3, "aü"), (9, "aüb")] {
            assert_eq!(cut("aüb", bytes), kept);
        }
    }

    #[test]
    fn bytes_are_two_digits() {
        assert_eq!(hex(&[0, 0x0a, 0xf1]), "000af1");
    }

    #[test]
    fn digits_are_read_in_pairs() {
        assert_eq!(unhex("00fF"), Some(vec![0, 255]));
        for bad in ["0", "0g", "é0"] {
            assert_eq!(unhex(bad), None);
        }
    }
}
