//! Tests of the certificate handling and of the codec against a client of the same library.

use super::*;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, SupportedCipherSuite,
};
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
    client_with(aws_lc_rs::DEFAULT_CIPHER_SUITES, alpn)
}

fn client_with(suites: &[SupportedCipherSuite], alpn: &[&[u8]]) -> ClientConnection {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites = suites.to_vec();
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
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

/// What the client reads of it.
fn read(client: &mut ClientConnection, mut cipher: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    while !cipher.is_empty() {
        client.read_tls(&mut cipher).unwrap();
        client.process_new_packets().unwrap();
        let mut reader = client.reader();
        while let Ok(1..) = Read::by_ref(&mut reader).take(1 << 16).read_to_end(&mut plain) {}
    }
    plain
}

/// Bytes in pieces, as a viewer's.
fn seal(server: &mut TlsCodec, pieces: &[&[u8]]) -> Option<Vec<u8>> {
    let pieces: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    let mut cipher = vec![0; TlsCodec::sealed_len(&pieces)];
    let length = server.seal(&pieces, &mut cipher)?;
    assert_eq!(length, cipher.len());
    Some(cipher)
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
        assert_eq!(read(&mut peer, &cipher), sent);
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

#[test]
fn sealed_records_are_what_a_client_of_each_suite_expects() {
    let base = folder("sealed");
    let context = TlsContext::load(&Ssl::default(), &base).unwrap();
    let sent: Vec<u8> = (0..100_000u32).map(|i| (i / 251) as u8).collect();
    for suite in aws_lc_rs::DEFAULT_CIPHER_SUITES.iter().filter(|suite| suite.tls13().is_some()) {
        let mut server = context.accept(Purpose::Rtmp).unwrap();
        // Another handshake in between has keys of its own.
        let (mut other, mut other_peer) = (context.accept(Purpose::Rtmp).unwrap(), client(&[]));
        let mut peer = client_with(&[*suite], &[]);
        assert!(seal(&mut server, &[&sent]).is_none(), "there is no key yet");
        pump(&mut peer, &mut server, 100_000);
        pump(&mut other_peer, &mut other, 100_000);
        assert_eq!(peer.negotiated_cipher_suite().map(|s| s.suite()), Some(suite.suite()));
        for pieces in [
            vec![&sent[..1]],
            vec![&sent[..1 << 14]],
            vec![&sent[..(1 << 14) + 1]],
            vec![&sent[..]],
            vec![&sent[..10], &[], &sent[10..20_000], &sent[20_000..20_001], &sent[20_001..]],
        ] {
            let cipher = seal(&mut server, &pieces).unwrap();
            assert_eq!(read(&mut peer, &cipher), pieces.concat());
            // The library's own records are numbered by the same count.
            server.encrypt(&[IoSlice::new(b"between")]);
            assert!(seal(&mut server, &pieces).is_none(), "a record waits before it");
            let mut cipher = Vec::new();
            server.send(&[IoSlice::new(b"after")], &mut cipher);
            assert_eq!(read(&mut peer, &cipher), b"betweenafter");
        }
        let cipher = seal(&mut other, &[b"other"]).unwrap();
        assert_eq!(read(&mut other_peer, &cipher), b"other");
        let mut end = Vec::new();
        server.close(&mut end);
        read(&mut peer, &end);
        assert!(peer.process_new_packets().unwrap().peer_has_closed());
    }
    fs::remove_dir_all(base).unwrap();
}

#[test]
fn other_keys_follow_when_they_are_worn_and_when_the_peer_asks() {
    let base = folder("keys");
    let context = TlsContext::load(&Ssl::default(), &base).unwrap();
    let (mut server, mut peer) = (context.accept(Purpose::Rtmp).unwrap(), client(&[]));
    pump(&mut peer, &mut server, 100_000);
    let (mut renewed, mut back, mut sent) = (0, Vec::new(), Vec::new());
    for round in 0..500u32 {
        let part = round.to_be_bytes().repeat(500);
        sent.extend_from_slice(&part);
        let before = server.sealer.as_ref().map(Arc::as_ptr);
        if round % 100 == 99 {
            peer.refresh_traffic_keys().unwrap();
            let mut up = Vec::new();
            peer.write_tls(&mut up).unwrap();
            server.receive(&up, &mut BytesMut::new()).unwrap();
        }
        let cipher = seal(&mut server, &[&part]).unwrap_or_else(|| {
            let mut cipher = Vec::new();
            server.send(&[IoSlice::new(&part)], &mut cipher);
            cipher
        });
        renewed += usize::from(server.sealer.as_ref().map(Arc::as_ptr) != before);
        back.extend_from_slice(&read(&mut peer, &cipher));
    }
    // In each hundred, once by the count of 64 and once by the peer.
    assert_eq!(renewed, 10);
    assert_eq!(back, sent);
    // The other direction has gone on too.
    peer.writer().write_all(b"still there").unwrap();
    assert_eq!(pump(&mut peer, &mut server, 100_000).0, b"still there");
    fs::remove_dir_all(base).unwrap();
}

#[test]
fn tls_1_2_is_left_to_the_library() {
    let base = folder("tls12");
    let context = TlsContext::load(&Ssl::default(), &base).unwrap();
    let suites = aws_lc_rs::DEFAULT_CIPHER_SUITES;
    let old: Vec<_> = suites.iter().copied().filter(|suite| suite.tls13().is_none()).collect();
    let (mut server, mut peer) =
        (context.accept(Purpose::Rtmp).unwrap(), client_with(&old[..], &[]));
    pump(&mut peer, &mut server, 100_000);
    assert!(!server.is_handshaking());
    assert!(seal(&mut server, &[b"media"]).is_none());
    let mut cipher = Vec::new();
    server.send(&[IoSlice::new(b"media")], &mut cipher);
    assert_eq!(read(&mut peer, &cipher), b"media");
    fs::remove_dir_all(base).unwrap();
}
