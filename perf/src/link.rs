//! One connection of a load: a socket that never waits, with TLS over it if asked for.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use bytes::BytesMut;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};

use crate::target::Target;
use crate::{Outcome, sys};

/// Most bytes thrown away by one call.
const DISCARD_MAX: usize = 1 << 30;

/// How TLS is spoken: every certificate is accepted, since servers under test sign their own.
///
/// # Errors
/// The crypto library offers no TLS version.
pub fn tls_config() -> Outcome<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Arc::new(AnyCertificate(provider.signature_verification_algorithms));
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// A connection and what waits to be sent on it.
#[derive(Debug)]
pub struct Link {
    socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
    pending: Vec<u8>,
}

impl Link {
    /// Begins to connect.
    ///
    /// # Errors
    /// No descriptor is left, or the refusal is known at once.
    pub fn connect(
        target: &Target,
        tls: &Arc<ClientConfig>,
        receive_buffer: Option<usize>,
    ) -> Outcome<Self> {
        let socket = sys::connect(target.address, receive_buffer)?;
        let tls = if target.tls {
            let name = ServerName::try_from(target.host.clone())?;
            Some(Box::new(ClientConnection::new(Arc::clone(tls), name)?))
        } else {
            None
        };
        Ok(Self { socket, tls, pending: Vec::new() })
    }

    /// The socket, for an epoll set.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Queues bytes and sends what the socket takes.
    ///
    /// # Errors
    /// The connection is over.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => tls.writer().write_all(bytes)?,
            None if self.pending.is_empty() => {
                let sent = match (&self.socket).write(bytes) {
                    Err(error) if !is_wait(&error) => return Err(error),
                    result => result.unwrap_or(0),
                };
                self.pending.extend_from_slice(&bytes[sent..]);
                return Ok(());
            }
            None => self.pending.extend_from_slice(bytes),
        }
        self.flush()
    }

    /// Sends what waits, as far as the socket takes it.
    ///
    /// # Errors
    /// The connection is over.
    pub fn flush(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                tls.write_tls(&mut self.pending)?;
            }
        }
        let mut sent = 0;
        while sent < self.pending.len() {
            match (&self.socket).write(&self.pending[sent..]) {
                Ok(count) => sent += count,
                Err(error) if is_wait(&error) => break,
                Err(error) => return Err(error),
            }
        }
        self.pending.drain(..sent);
        Ok(())
    }

    /// Bytes that wait to be sent.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Receives once, at most the scratch space, and appends what it says in plain to `into`.
    /// How many bytes came over the wire; 0 at the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; else the connection is over.
    pub fn receive(&mut self, scratch: &mut [u8], into: &mut BytesMut) -> io::Result<usize> {
        let count = (&self.socket).read(scratch)?;
        let Some(tls) = &mut self.tls else {
            into.extend_from_slice(&scratch[..count]);
            return Ok(count);
        };
        let mut wire = &scratch[..count];
        while !wire.is_empty() {
            tls.read_tls(&mut wire)?;
            tls.process_new_packets().map_err(io::Error::other)?;
            let mut plain = [0; 16 * 1024];
            while let Ok(length @ 1..) = tls.reader().read(&mut plain) {
                into.extend_from_slice(&plain[..length]);
            }
        }
        self.flush()?;
        Ok(count)
    }

    /// Throws away what has arrived, encrypted or not, without copying it; 0 at the end.
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub fn discard(&self) -> io::Result<usize> {
        sys::discard(&self.socket, DISCARD_MAX)
    }
}

/// The socket is not ready; nothing is wrong.
pub fn is_wait(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Checks signatures, not who made them.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
