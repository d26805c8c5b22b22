//! TLS without IO: the certificate in force, and a codec that turns ciphertext into plaintext and
//! back. The context is shared by all shards; a codec lives where its connection lives.

use std::fs::{self, OpenOptions};
use std::io::{self, IoSlice, Read, Write};
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::BytesMut;
use rustls::crypto::aws_lc_rs;
use rustls::{Connection, ServerConfig, ServerConnection};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::model::Ssl;
use crate::net::sealer::{self, Sealer};
use crate::net::sys;

const SELF_SIGNED_CERT: &str = "ssl/self-signed.crt";
const SELF_SIGNED_KEY: &str = "ssl/self-signed.key";
/// Years a self-signed certificate lasts.
const SELF_SIGNED_YEARS: i32 = 10;
/// What one connection costs on the heap: keys, handshake state and one record each way.
const CONNECTION_BYTES_ESTIMATE: usize = 24 * 1024;

/// Why TLS cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate or key file cannot be read or written.
    #[error("{path}: {source}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file holds no usable PEM section.
    #[error("{path}: {source}", path = .path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// Only one of certificate and key is configured.
    #[error("ssl needs both a certificate and a key, or neither")]
    HalfConfigured,
    /// The self-signed certificate could not be made.
    #[error("cannot make a self-signed certificate: {0}")]
    Generate(#[from] rcgen::Error),
    /// The certificate and key do not fit, or the peer broke the protocol.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

/// What a connection on a TLS port will speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// HTTP: HTTP/2 and HTTP/1.1 are offered through ALPN.
    Http,
    /// RTMP: no ALPN.
    Rtmp,
}

#[derive(Clone)]
struct Configs {
    chain: Vec<CertificateDer<'static>>,
    http: Arc<ServerConfig>,
    rtmp: Arc<ServerConfig>,
}

/// A certificate and its key, read and found to fit.
pub struct Certificate {
    cert: PathBuf,
    key: PathBuf,
    self_signed: bool,
    configs: Configs,
}

impl Certificate {
    /// Where the configured pair is, or else the self-signed one.
    ///
    /// # Errors
    /// Only one of the two is configured.
    pub fn files(ssl: &Ssl, base_dir: &Path) -> Result<[PathBuf; 2], TlsError> {
        match (&ssl.server_cert, &ssl.server_key) {
            (Some(cert), Some(key)) => Ok([base_dir.join(cert), base_dir.join(key)]),
            (None, None) => Ok([base_dir.join(SELF_SIGNED_CERT), base_dir.join(SELF_SIGNED_KEY)]),
            _ => Err(TlsError::HalfConfigured),
        }
    }

    /// Reads the configured pair; without one, the self-signed pair in `ssl/` beneath
    /// `base_dir`, made now if it is not there yet.
    ///
    /// # Errors
    /// The files are unusable; see [`TlsError`].
    pub fn read(ssl: &Ssl, base_dir: &Path) -> Result<Self, TlsError> {
        let [cert, key] = Self::files(ssl, base_dir)?;
        let self_signed = ssl.server_cert.is_none();
        if self_signed && (!cert.exists() || !key.exists()) {
            generate(&cert, &key)?;
            tracing::warn!(
                certificate = %cert.display(),
                "no certificate is configured: made a self-signed one, which browsers and \
                 players will question"
            );
        }
        let configs = read_configs(&cert, &key)?;
        Ok(Self { cert, key, self_signed, configs })
    }
}

/// The certificate in force, for every TLS service.
pub struct TlsContext(RwLock<Certificate>);

impl TlsContext {
    /// Reads what is configured, see [`Certificate::read`].
    ///
    /// # Errors
    /// The files are unusable; see [`TlsError`].
    pub fn load(ssl: &Ssl, base_dir: &Path) -> Result<Self, TlsError> {
        Certificate::read(ssl, base_dir).map(|certificate| Self(RwLock::new(certificate)))
    }

    /// Connections from now on use this one; false if it is the one in force already, whose
    /// tickets then stay good.
    pub fn install(&self, certificate: Certificate) -> bool {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let differs = current.configs.chain != certificate.configs.chain;
        if differs || current.cert != certificate.cert || current.key != certificate.key {
            *current = certificate;
        }
        differs
    }

    /// The certificate was made by this server and is vouched for by nobody.
    pub fn is_self_signed(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).self_signed
    }

    /// The server side of one new connection.
    ///
    /// # Errors
    /// The TLS library refuses to start one.
    pub fn accept(&self, purpose: Purpose) -> Result<TlsCodec, TlsError> {
        let config = {
            let current = self.0.read().unwrap_or_else(PoisonError::into_inner);
            match purpose {
                Purpose::Http => current.configs.http.clone(),
                Purpose::Rtmp => current.configs.rtmp.clone(),
            }
        };
        let mut conn = ServerConnection::new(config)?;
        // What `send` is given is encrypted and taken out at once, so nothing piles up inside.
        conn.set_buffer_limit(None);
        Ok(TlsCodec::new(conn.into()))
    }
}

fn read_configs(cert: &Path, key: &Path) -> Result<Configs, TlsError> {
    let read =
        |path: &Path| fs::read(path).map_err(|source| TlsError::File { path: path.into(), source });
    let pem = |path: &Path, source| TlsError::Pem { path: path.into(), source };
    let chain = CertificateDer::pem_slice_iter(&read(cert)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| pem(cert, e))?;
    if chain.is_empty() {
        return Err(pem(cert, pem::Error::NoItemsFound));
    }
    let key = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|e| pem(key, e))?;
    let mut provider = aws_lc_rs::default_provider();
    // What browsers ask for first, and a third cheaper per byte than what others do.
    let preferred = aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256.suite();
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != preferred);
    provider.cipher_suites.iter_mut().for_each(|suite| *suite = sealer::sharing(*suite));
    let mut rtmp = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_single_cert(chain.clone(), key)?;
    rtmp.ignore_client_order = true;
    // Tickets hold the session state on the client, so resumption costs no table here.
    rtmp.ticketer = aws_lc_rs::Ticketer::new()?;
    let mut http = rtmp.clone();
    http.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Configs { chain, http: Arc::new(http), rtmp: Arc::new(rtmp) })
}

fn generate(cert_path: &Path, key_path: &Path) -> Result<(), TlsError> {
    let mut names = vec!["localhost".to_owned()];
    // The kernel's own file: no resolver is asked, so a start without network does not wait.
    if let Ok(host) = fs::read_to_string("/proc/sys/kernel/hostname") {
        let host = host.trim();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
        if !host.is_empty() && host != "localhost" && host.chars().all(plain) {
            names.push(host.to_owned());
        }
    }
    names.extend(sys::interface_addresses().iter().map(IpAddr::to_string));
    let mut params = rcgen::CertificateParams::new(names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "smart-rtmpd self-signed");
    let year = i32::from(jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).year());
    params.not_before = rcgen::date_time_ymd(year - 1, 1, 1);
    params.not_after = rcgen::date_time_ymd(year + SELF_SIGNED_YEARS, 1, 1);
    let key = rcgen::KeyPair::generate()?;
    let cert = params.self_signed(&key)?;
    if let Some(folder) = cert_path.parent() {
        fs::create_dir_all(folder)
            .map_err(|source| TlsError::File { path: folder.into(), source })?;
    }
    write_file(key_path, key.serialize_pem().as_bytes(), 0o600)?;
    write_file(cert_path, cert.pem().as_bytes(), 0o644)
}

fn write_file(path: &Path, bytes: &[u8], mode: u32) -> Result<(), TlsError> {
    let file = |source| TlsError::File { path: path.into(), source };
    // An old file would keep its old mode.
    if let Err(e) = fs::remove_file(path)
        && e.kind() != io::ErrorKind::NotFound
    {
        return Err(file(e));
    }
    let mut out =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(file)?;
    out.write_all(bytes).map_err(file)
}

/// What [`TlsCodec::receive`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// The peer has said that it sends nothing more (`close_notify`).
    pub eof: bool,
}

/// A socket as the TLS library writes to it: all records that wait in one call.
struct Socket<'a>(BorrowedFd<'a>);

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        sys::send(self.0, bytes)
    }

    fn write_vectored(&mut self, records: &[IoSlice<'_>]) -> io::Result<usize> {
        match records {
            // Most batches are one record, and this call is the cheaper one.
            [record] => sys::send(self.0, record),
            _ => sys::sendmsg(self.0, records),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One side of one TLS connection without its socket: ciphertext in, plaintext out, and
/// the other way round. It keeps at most one partial record; everything else is handed on.
pub struct TlsCodec {
    conn: Connection,
    /// The keys in force for sending, where they are shared: the server side of TLS 1.3.
    sealer: Option<Arc<Sealer>>,
    closing: bool,
}

impl TlsCodec {
    /// Of a connection without a limit of its buffers.
    pub(super) fn new(conn: Connection) -> Self {
        Self { conn, sealer: None, closing: false }
    }

    /// Takes all of `cipher` and appends what it decrypts to. Answers of the protocol itself are
    /// then waiting in [`TlsCodec::take_output`]. Bytes after the peer's end are dropped.
    ///
    /// # Errors
    /// The peer broke TLS; send what [`TlsCodec::take_output`] yields (the alert) and close.
    pub fn receive(
        &mut self,
        mut cipher: &[u8],
        plain: &mut BytesMut,
    ) -> Result<Received, TlsError> {
        let mut eof = false;
        while !cipher.is_empty() && !eof {
            let broken = |_| rustls::Error::General("record buffer is full".into());
            let taken = self.conn.read_tls(&mut cipher).map_err(broken)?;
            let state = self.watched(Connection::process_new_packets)?;
            let ready = state.plaintext_bytes_to_read();
            if ready > 0 {
                let start = plain.len();
                plain.resize(start + ready, 0);
                let read = self.conn.reader().read(&mut plain[start..]).unwrap_or(0);
                plain.truncate(start + read);
            }
            eof = state.peer_has_closed() || taken == 0;
        }
        Ok(Received { eof })
    }

    /// Encrypts all of `plain`, in order, and appends the records to `cipher`.
    pub fn send(&mut self, plain: &[IoSlice<'_>], cipher: &mut Vec<u8>) {
        // What the protocol has said before comes first.
        self.take_output(cipher);
        let start = cipher.len();
        cipher.resize(start + Self::sealed_len(plain), 0);
        let sealed = self.seal(plain, &mut cipher[start..]);
        cipher.truncate(start + sealed.unwrap_or(0));
        if sealed.is_none() {
            self.encrypt(plain);
            self.take_output(cipher);
        }
    }

    /// Bytes that [`TlsCodec::seal`] makes of these.
    pub fn sealed_len(plain: &[IoSlice<'_>]) -> usize {
        sealer::sealed_len(plain.iter().map(|slice| slice.len()).sum())
    }

    /// Encrypts all of `plain`, in order, in one pass from there to `out`, which has to be
    /// [`TlsCodec::sealed_len`] long or longer; how many bytes that gave. `None`, and nothing
    /// done, if the protocol has something to say first or cannot do it (TLS 1.2): then
    /// [`TlsCodec::encrypt`].
    pub fn seal(&mut self, plain: &[IoSlice<'_>], out: &mut [u8]) -> Option<usize> {
        self.renew_worn_keys();
        let sealer = self.sealer.as_ref()?;
        if self.conn.wants_write() || self.conn.is_handshaking() {
            return None;
        }
        debug_assert!(!self.closing, "plaintext after the end");
        // What was begun cannot be taken back; nothing that is a record's length fails.
        Some(sealer.seal(plain, out).expect("records of good length"))
    }

    /// Says that [`TlsCodec::seal`] comes soon. It reads `self`, which should be at hand by now.
    pub fn foresee(&self) {
        if let Some(sealer) = &self.sealer {
            sealer.foresee();
        }
    }

    /// A key is good for so many records; the protocol then has other keys follow.
    fn renew_worn_keys(&mut self) {
        if self.sealer.as_ref().is_some_and(|sealer| sealer.is_worn()) {
            // Refused before the end of the handshake only, and it made few records.
            let renewed = self.watched(Connection::refresh_traffic_keys);
            debug_assert!(renewed.is_ok());
        }
    }

    /// A step of the library that may put other keys in force.
    fn watched<T>(&mut self, step: impl FnOnce(&mut Connection) -> T) -> T {
        let (result, sealer) = sealer::watch(|| step(&mut self.conn));
        if sealer.is_some() {
            self.sealer = sealer;
            if !self.conn.is_handshaking() {
                // The answer to a key update waits inside, unseen, until something is written; the
                // peer has to get it before anything that is sent with the new key.
                let nothing = self.conn.writer().write(&[]);
                debug_assert!(matches!(nothing, Ok(0)));
            }
        }
        result
    }

    /// Encrypts all of `plain`, in order; the records wait for [`TlsCodec::flush`].
    pub fn encrypt(&mut self, plain: &[IoSlice<'_>]) {
        debug_assert!(!self.conn.is_handshaking(), "plaintext before the handshake is done");
        debug_assert!(!self.closing, "plaintext after the end");
        self.renew_worn_keys();
        // Without a buffer limit the writer takes everything and cannot fail.
        let taken = self.watched(|conn| conn.writer().write_vectored(plain)).unwrap_or(0);
        debug_assert_eq!(taken, plain.iter().map(|s| s.len()).sum::<usize>());
    }

    /// Sends records that wait straight to a socket; how many bytes it took.
    ///
    /// # Errors
    /// What the socket says; `WouldBlock` leaves the rest for the next time.
    pub fn flush(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.conn.write_tls(&mut Socket(socket))
    }

    /// Appends what the protocol itself has to say (handshake, tickets, alerts) to `cipher`.
    pub fn take_output(&mut self, cipher: &mut Vec<u8>) {
        while self.conn.wants_write() {
            // Writing to memory cannot fail; 0 bytes would mean a loop without an end.
            if !matches!(self.conn.write_tls(cipher), Ok(n) if n > 0) {
                break;
            }
        }
    }

    /// Says goodbye (`close_notify`, once) and appends it to `cipher`.
    pub fn close(&mut self, cipher: &mut Vec<u8>) {
        if !self.closing {
            self.closing = true;
            self.conn.send_close_notify();
            self.take_output(cipher);
        }
    }

    /// Something waits in [`TlsCodec::take_output`].
    pub fn wants_write(&self) -> bool {
        self.conn.wants_write()
    }

    /// The handshake is not complete: nothing may be sent yet.
    pub fn is_handshaking(&self) -> bool {
        self.conn.is_handshaking()
    }

    /// The protocol agreed on through ALPN.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.conn.alpn_protocol()
    }

    /// Roughly what this connection holds on the heap.
    pub fn heap_bytes(&self) -> usize {
        CONNECTION_BYTES_ESTIMATE
    }
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
