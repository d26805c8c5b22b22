//! Tests of the certificate handling and of the codec against a client of the same library.

use super::*;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{ServerName, UnixTime};
use std::os::unix::fs::PermissionsExt;

#[derive(Debug)]
struct AnyCertificate;

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
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

fn client(alpn: &[&[u8]]) -> ClientConnection {
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap()
}

fn folder(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("tls-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

/// Moves everything both ways until nobody has anything to say; feeds `step` bytes at a time.
fn pump(client: &mut ClientConnection, server: &mut TlsCodec, step: usize) -> (Vec<u8>, bool) {
    let (mut plain, mut eof) = (BytesMut::new(), false);
    loop {
        let mut up = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut up).unwrap();
        }
        for part in up.chunks(step) {
            eof |= server.receive(part, &mut plain).unwrap().eof;
        }
        let mut down = Vec::new();
        server.take_output(&mut down);
        let mut rest = &down[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets().unwrap();
        }
        if up.is_empty() && down.is_empty() {
            return (plain.to_vec(), eof);
        }
    }
}

#[test]
fn the_self_signed_pair_is_made_once_and_its_key_is_private() {
    let base = folder("once");
    let context = TlsContext::load(&Ssl::default(), &base).unwrap();
    assert!(context.is_self_signed());
    let key = base.join(SELF_SIGNED_KEY);
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let first = fs::read(&key).unwrap();
    TlsContext::load(&Ssl::default(), &base).unwrap();
    assert_eq!(fs::read(&key).unwrap(), first);
    fs::remove_dir_all(base).unwrap();
}

#[test]
fn a_bad_file_changes_nothing_at_reload() {
    let base = folder("reload");
    let context = TlsContext::load(&Ssl::default(), &base).unwrap();
    fs::write(base.join(SELF_SIGNED_CERT), b"no certificate").unwrap();
    assert!(Certificate::read(&Ssl::default(), &base).is_err());
    assert!(TlsContext::load(&Ssl::default(), &base).is_err());
    let mut server = context.accept(Purpose::Rtmp).unwrap();
    pump(&mut client(&[]), &mut server, 4096);
    assert!(!server.is_handshaking());
    generate(&base.join(SELF_SIGNED_CERT), &base.join(SELF_SIGNED_KEY)).unwrap();
    let read = || Certificate::read(&Ssl::default(), &base).unwrap();
    assert!(context.install(read()));
    assert!(!context.install(read()), "it is the same");
    let half = Ssl { server_cert: Some("a.pem".into()), ..Ssl::default() };
    assert!(matches!(TlsContext::load(&half, &base), Err(TlsError::HalfConfigured)));
    fs::remove_dir_all(base).unwrap();
}

#[test]
fn plaintext_survives_the_way_there_and_back_in_any_pieces() {
    let base = folder("echo");
    let context = TlsContext::load(&Ssl::default(), &base).unwrap();
    for step in [1, 7, 1000, 100_000] {
        let mut server = context.accept(Purpose::Http).unwrap();
        let mut peer = client(&[b"h2", b"http/1.1"]);
        pump(&mut peer, &mut server, step);
        assert_eq!(server.alpn(), Some(&b"h2"[..]));
        let sent: Vec<u8> = (0..40_000u32).map(|i| i as u8).collect();
        peer.writer().write_all(&sent).unwrap();
        assert_eq!(pump(&mut peer, &mut server, step).0, sent);
        let mut cipher = Vec::new();
        server.send(&[IoSlice::new(&sent[..100]), IoSlice::new(&sent[100..])], &mut cipher);
        let (mut rest, mut back) = (&cipher[..], Vec::new());
        while !rest.is_empty() {
            peer.read_tls(&mut rest).unwrap();
            peer.process_new_packets().unwrap();
            let _ = peer.reader().read_to_end(&mut back);
        }
        assert_eq!(back, sent);
        peer.send_close_notify();
        assert!(pump(&mut peer, &mut server, step).1, "close_notify is the end");
        let mut plain = BytesMut::new();
        assert!(server.receive(b"after the end", &mut plain).unwrap().eof);
    }
    fs::remove_dir_all(base).unwrap();
}

#[test]
fn noise_is_an_error_with_an_alert() {
    let base = folder("noise");
    let context = TlsContext::load(&Ssl::default(), &base).unwrap();
    let mut server = context.accept(Purpose::Http).unwrap();
    assert!(server.receive(b"GET / HTTP/1.1\r\n\r\n", &mut BytesMut::new()).is_err());
    let mut alert = Vec::new();
    server.take_output(&mut alert);
    assert_eq!(alert.first(), Some(&21));
    fs::remove_dir_all(base).unwrap();
}
