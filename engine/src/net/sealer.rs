//! TLS 1.3 records made straight from shared media bytes (RFC 8446 clauses 5.2 to 5.5).
//!
//! The TLS library copies what it encrypts twice, into a record of its own and out of it. Its
//! cipher suites are ours to give, so they are the library's with one thing more: the keys in
//! force for sending are shared with [`super::tls::TlsCodec`], which then makes a record of media
//! in one pass, from the bytes all viewers share into the buffer that is sent. Handshake, tickets,
//! alerts, key updates and everything received stay with the library; both count the records of a
//! key by the same counter. TLS 1.2 has none of this.

use std::cell::RefCell;
use std::io::IoSlice;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use aws_lc_rs::aead::{self, Aad, LessSafeKey, UnboundKey};
use rustls::crypto::aws_lc_rs::cipher_suite;
use rustls::crypto::cipher::{
    AeadKey, Iv, MessageDecrypter, MessageEncrypter, Nonce, OutboundOpaqueMessage,
    OutboundPlainMessage, PrefixedPayload, Tls13AeadAlgorithm, UnsupportedOperationError,
    make_tls13_aad,
};
use rustls::{
    CipherSuiteCommon, ConnectionTrafficSecrets, ContentType, Error, ProtocolVersion,
    SupportedCipherSuite, Tls13CipherSuite,
};

use crate::net::sys_cache::prefetch;

/// Plaintext of one record (RFC 8446 clause 5.1).
const RECORD_MAX: usize = 1 << 14;
/// Content type, legacy version, length.
const HEADER: usize = 5;
/// The content type within, and the tag, which is of this size with all three suites.
const END: usize = 1 + 16;
/// The content type of media.
const MEDIA: [u8; 1] = [23];
/// Records after which a key is to be replaced: a third of what RFC 8446 clause 5.5 allows AES-GCM.
/// Few in tests, which see the replacement.
const RECORDS_MAX: u64 = if cfg!(test) { 64 } else { 1 << 23 };

/// What replaces the library's suites of the same names.
static SUITES: LazyLock<Vec<Tls13CipherSuite>> = LazyLock::new(|| {
    let suites = [
        (cipher_suite::TLS13_AES_128_GCM_SHA256, &aead::AES_128_GCM),
        (cipher_suite::TLS13_AES_256_GCM_SHA384, &aead::AES_256_GCM),
        (cipher_suite::TLS13_CHACHA20_POLY1305_SHA256, &aead::CHACHA20_POLY1305),
    ];
    let shared = |(theirs, cipher): (SupportedCipherSuite, _)| {
        let theirs = theirs.tls13()?;
        // Once per process: the library wants it to live for ever.
        let aead_alg = Box::leak(Box::new(SharedAead { cipher, theirs: theirs.aead_alg }));
        let common = CipherSuiteCommon { ..theirs.common };
        let hkdf_provider = theirs.hkdf_provider;
        Some(Tls13CipherSuite { common, hkdf_provider, aead_alg, quic: None })
    };
    suites.into_iter().filter_map(shared).collect()
});

thread_local! {
    /// The keys for sending that the library made last, for [`watch`].
    static MADE: RefCell<Option<Arc<Sealer>>> = const { RefCell::new(None) };
}

/// The suite of the same name whose keys can be shared; the same one if there is none.
pub(super) fn sharing(suite: SupportedCipherSuite) -> SupportedCipherSuite {
    let ours = SUITES.iter().find(|ours| ours.common.suite == suite.suite());
    ours.map_or(suite, SupportedCipherSuite::Tls13)
}

/// Runs one step of a connection with such a suite. If the step put other keys for sending in
/// force, those are given too.
pub(super) fn watch<T>(step: impl FnOnce() -> T) -> (T, Option<Arc<Sealer>>) {
    // What another step left, by a panic, belongs to another connection.
    MADE.take();
    let result = step();
    (result, MADE.take())
}

/// Bytes of the records that `plain` bytes become.
pub(super) fn sealed_len(plain: usize) -> usize {
    plain + plain.div_ceil(RECORD_MAX) * (HEADER + END)
}

/// The keys one side of a connection sends with.
pub(super) struct Sealer {
    key: LessSafeKey,
    iv: Iv,
    /// Number of the next record. The library wants something `Send`; one thread uses it.
    next: AtomicU64,
}

impl Sealer {
    /// So many records have been made that other keys should come.
    pub(super) fn is_worn(&self) -> bool {
        self.next.load(Ordering::Relaxed) >= RECORDS_MAX
    }

    /// Says that it will be used soon.
    pub(super) fn foresee(&self) {
        prefetch(&self.key);
        prefetch(&self.next);
    }

    /// Makes records of application data of all of `plain` at the start of `out`, which has to
    /// be [`sealed_len`] long or longer; how many bytes they are. What lies in one piece is read
    /// where it is, a record of several pieces is put together first.
    ///
    /// # Errors
    /// The cipher fails, which it does for lengths no record has.
    pub(super) fn seal(&self, plain: &[IoSlice<'_>], out: &mut [u8]) -> Result<usize, Error> {
        let mut left: usize = plain.iter().map(|piece| piece.len()).sum();
        let mut pieces = Pieces { rest: plain, at: 0 };
        let mut used = 0;
        while left > 0 {
            let length = left.min(RECORD_MAX);
            let (header, rest) = out[used..].split_at_mut(HEADER);
            let (body, rest) = rest.split_at_mut(length);
            let end = &mut rest[..END];
            let aad = make_tls13_aad(length + END);
            header.copy_from_slice(&aad);
            let (nonce, aad) = (self.nonce(), Aad::from(aad));
            let first = pieces.take(length);
            let sealed = if first.len() == length {
                self.key.seal_out_of_place_scatter(nonce, aad, first, body, &MEDIA, end)
            } else {
                let (start, mut room) = body.split_at_mut(first.len());
                start.copy_from_slice(first);
                while !room.is_empty() {
                    let next = pieces.take(room.len());
                    let (start, rest) = room.split_at_mut(next.len());
                    start.copy_from_slice(next);
                    room = rest;
                }
                self.key.seal_in_place_scatter(nonce, aad, body, &MEDIA, end)
            };
            sealed.map_err(|_| Error::EncryptError)?;
            used += HEADER + length + END;
            left -= length;
        }
        Ok(used)
    }

    /// Of the next record; never the same twice.
    fn nonce(&self) -> aead::Nonce {
        let number = self.next.load(Ordering::Relaxed);
        self.next.store(number + 1, Ordering::Relaxed);
        aead::Nonce::assume_unique_for_key(Nonce::new(&self.iv, number).0)
    }
}

/// A place in bytes that lie in pieces.
struct Pieces<'a> {
    rest: &'a [IoSlice<'a>],
    at: usize,
}

impl<'a> Pieces<'a> {
    /// The next bytes that lie together, `most` of them at most; none only at the end of all.
    fn take(&mut self, most: usize) -> &'a [u8] {
        while let Some((piece, after)) = self.rest.split_first() {
            let whole = &piece[self.at..];
            if whole.len() > most {
                self.at += most;
                return &whole[..most];
            }
            (self.rest, self.at) = (after, 0);
            if !whole.is_empty() {
                return whole;
            }
        }
        &[]
    }
}

/// The library's end of a [`Sealer`].
struct Shared(Arc<Sealer>);

impl MessageEncrypter for Shared {
    fn encrypt(
        &mut self,
        message: OutboundPlainMessage<'_>,
        _number: u64,
    ) -> Result<OutboundOpaqueMessage, Error> {
        let length = self.encrypted_payload_len(message.payload.len());
        let mut payload = PrefixedPayload::with_capacity(length);
        payload.extend_from_chunks(&message.payload);
        payload.extend_from_slice(&[u8::from(message.typ)]);
        let aad = Aad::from(make_tls13_aad(length));
        self.0
            .key
            .seal_in_place_append_tag(self.0.nonce(), aad, &mut payload)
            .map_err(|_| Error::EncryptError)?;
        let kind = ContentType::ApplicationData;
        Ok(OutboundOpaqueMessage::new(kind, ProtocolVersion::TLSv1_2, payload))
    }

    fn encrypted_payload_len(&self, payload_len: usize) -> usize {
        payload_len + END
    }
}

/// A cipher of the library whose sending keys [`watch`] hands out.
struct SharedAead {
    cipher: &'static aead::Algorithm,
    theirs: &'static dyn Tls13AeadAlgorithm,
}

impl Tls13AeadAlgorithm for SharedAead {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        let key = UnboundKey::new(self.cipher, key.as_ref());
        let key = LessSafeKey::new(key.expect("keys are as long as `key_len` says"));
        let sealer = Arc::new(Sealer { key, iv, next: AtomicU64::new(0) });
        MADE.set(Some(Arc::clone(&sealer)));
        Box::new(Shared(sealer))
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        self.theirs.decrypter(key, iv)
    }

    fn key_len(&self) -> usize {
        self.theirs.key_len()
    }

    fn extract_keys(
        &self,
        _key: AeadKey,
        _iv: Iv,
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        // The library's own count of records would be wrong.
        Err(UnsupportedOperationError)
    }
}
