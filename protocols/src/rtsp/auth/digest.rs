//! The arithmetic of Digest (RFC 7616 3.4; RFC 2617 3.2.2 without `qop`).

use md5::Md5;
use sha2::{Digest, Sha256};

use crate::text::hex;

/// Hash of a challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// MD5, also where none is named.
    Md5,
    /// SHA-256.
    Sha256,
}

impl Algorithm {
    /// As written in headers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
        }
    }

    /// `None`: not one of ours (`-sess` forms included).
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Md5, Self::Sha256]
            .into_iter()
            .find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
    }

    /// Hash of the parts joined by colons, in lower-case hex.
    fn hash(self, parts: &[&str]) -> String {
        let text = parts.join(":");
        match self {
            Self::Md5 => hex(&Md5::digest(text)),
            Self::Sha256 => hex(&Sha256::digest(text)),
        }
    }

    /// `H(A1)` of a user.
    pub fn ha1(self, user: &str, realm: &str, password: &str) -> String {
        self.hash(&[user, realm, password])
    }
}

/// What stands in a header beside the user's secret.
#[derive(Debug, Clone, Copy)]
pub struct Exchange<'a> {
    /// Hash.
    pub algorithm: Algorithm,
    /// The server's.
    pub nonce: &'a str,
    /// Nonce count (8 hex digits) and client nonce, with `qop=auth`.
    pub auth: Option<(&'a str, &'a str)>,
    /// Method of the request.
    pub method: &'a str,
    /// `uri` of the header.
    pub uri: &'a str,
}

impl Exchange<'_> {
    /// `request-digest`, in lower-case hex.
    pub fn response(&self, ha1: &str) -> String {
        let ha2 = self.algorithm.hash(&[self.method, self.uri]);
        match self.auth {
            Some((count, cnonce)) => {
                self.algorithm.hash(&[ha1, self.nonce, count, cnonce, "auth", &ha2])
            }
            None => self.algorithm.hash(&[ha1, self.nonce, &ha2]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 2617 3.5, and its example in RFC 2069 2.4 with erratum 749.
    #[test]
    fn rfc_2617() {
        let algorithm = Algorithm::Md5;
        let nonce = "dcd98b7102dd2f0e8b11d0f600bfb0c093";
        let auth = Some(("00000001", "0a4f113b"));
        let (method, uri) = ("GET", "/dir/index.html");
        let exchange = Exchange { algorithm, nonce, auth, method, uri };
        let ha1 = algorithm.ha1("Mufasa", "testrealm@host.com", "Circle Of Life");
        assert_eq!(exchange.response(&ha1), "6629fae49393a05397450978507c4ef1");
        let ha1 = algorithm.ha1("Mufasa", "testrealm@host.com", "CircleOfLife");
        let plain = Exchange { auth: None, ..exchange };
        assert_eq!(plain.response(&ha1), "1949323746fe6a43ef61f9606e7febea");
    }

    // RFC 7616 3.9.1.
    #[test]
    fn rfc_7616() {
        let auth = Some(("00000001", "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"));
        let nonce = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v";
        for (algorithm, expected) in [
            (Algorithm::Md5, "8ca523f5e9506fed4657c9700eebdbec"),
            (Algorithm::Sha256, "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ] {
            let ha1 = algorithm.ha1("Mufasa", "http-auth@example.org", "Circle of Life");
            let (method, uri) = ("GET", "/dir/index.html");
            let exchange = Exchange { algorithm, nonce, auth, method, uri };
            assert_eq!(exchange.response(&ha1), expected);
        }
    }
}
