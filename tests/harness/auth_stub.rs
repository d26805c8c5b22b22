//! A stand-in for an authorisation server: records what it is asked, and answers as it is told.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::{http, wait};

/// Longest time a connection is held.
const HELD: Duration = Duration::from_secs(20);

/// One question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// `PUT` or `GET`.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Header lines as they came.
    pub headers: Vec<String>,
}

/// What the stub does with a question.
#[derive(Debug, Clone)]
pub enum Reply {
    /// An answer of this status, without a body.
    Status(u16),
    /// These bytes, then the end.
    Raw(Vec<u8>),
    /// An answer after a while.
    Late(Duration, u16),
    /// A head, one byte at a time, without end.
    Drip,
    /// Status 200 and a body without end.
    Endless,
    /// Nothing.
    Hang,
    /// The end, without a word.
    Close,
}

type Rule = Box<dyn Fn(&Asked) -> Reply + Send>;

/// A running stub.
pub struct Stub {
    /// Where it listens.
    pub port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    rule: Arc<Mutex<Rule>>,
    /// Connections open at the moment.
    open: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Stub {
    /// Answers by a rule.
    pub fn start(rule: impl Fn(&Asked) -> Reply + Send + 'static) -> Stub {
        Stub::serve(rule, None)
    }

    /// As [`Stub::start`], within TLS; certificate and key are PEM files.
    pub fn start_tls(
        certificate: &Path,
        key: &Path,
        rule: impl Fn(&Asked) -> Reply + Send + 'static,
    ) -> Stub {
        let certificates =
            CertificateDer::pem_slice_iter(&fs::read(certificate).expect("is there"))
                .collect::<Result<Vec<_>, _>>()
                .expect("PEM");
        let key = PrivateKeyDer::from_pem_slice(&fs::read(key).expect("is there")).expect("PEM");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("sound defaults")
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .expect("they fit");
        Stub::serve(rule, Some(Arc::new(config)))
    }

    fn serve(
        rule: impl Fn(&Asked) -> Reply + Send + 'static,
        tls: Option<Arc<ServerConfig>>,
    ) -> Stub {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let stub = Stub {
            port,
            asked: Arc::default(),
            rule: Arc::new(Mutex::new(Box::new(rule))),
            open: Arc::default(),
            stop: Arc::default(),
        };
        let (asked, rule) = (Arc::clone(&stub.asked), Arc::clone(&stub.rule));
        let (open, stop) = (Arc::clone(&stub.open), Arc::clone(&stub.stop));
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let (asked, rule, tls) = (Arc::clone(&asked), Arc::clone(&rule), tls.clone());
                let open = Arc::clone(&open);
                open.fetch_add(1, Ordering::Relaxed);
                std::thread::spawn(move || {
                    // The other end may go away at any time: that is what is tested.
                    let _ = match tls {
                        None => answer(socket.try_clone(), socket, &asked, &rule),
                        Some(config) => ServerConnection::new(config)
                            .map_err(io::Error::other)
                            .and_then(|tls| {
                                let raw = socket.try_clone();
                                answer(raw, StreamOwned::new(tls, socket), &asked, &rule)
                            }),
                    };
                    open.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        stub
    }

    /// Another rule from now on.
    pub fn set(&self, rule: impl Fn(&Asked) -> Reply + Send + 'static) {
        *self.rule.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(rule);
    }

    /// What was asked since this was last called.
    pub fn take(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How much was asked since then.
    pub fn count(&self) -> usize {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Connections open at the moment.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// `127.0.0.1:PORT`.
    pub fn place(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // The listener is woken to see it.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn answer(
    raw: io::Result<TcpStream>,
    mut stream: impl Read + Write,
    asked: &Mutex<Vec<Asked>>,
    rule: &Mutex<Rule>,
) -> io::Result<()> {
    let raw = raw?;
    raw.set_read_timeout(Some(HELD))?;
    raw.set_write_timeout(Some(HELD))?;
    let question = read_question(&mut stream)?;
    asked.lock().unwrap_or_else(PoisonError::into_inner).push(question.clone());
    let reply = rule.lock().unwrap_or_else(PoisonError::into_inner)(&question);
    match reply {
        Reply::Status(status) => write!(stream, "{}", head(status))?,
        Reply::Raw(bytes) => stream.write_all(&bytes)?,
        Reply::Late(span, status) => {
            // Until then, unless the other end goes first.
            raw.set_read_timeout(Some(span))?;
            if stream.read(&mut [0]).is_ok_and(|count| count == 0) {
                return Ok(());
            }
            write!(stream, "{}", head(status))?;
        }
        Reply::Drip => {
            let mut alive = true;
            wait::paced(Duration::from_millis(50), HELD, || {
                alive = stream.write_all(b"H").and_then(|()| stream.flush()).is_ok();
                alive
            });
        }
        Reply::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")?;
            let body = vec![b'x'; 65_536];
            while stream.write_all(&body).is_ok() {}
        }
        Reply::Hang => {
            let _ = stream.read(&mut [0]);
        }
        Reply::Close => {}
    }
    stream.flush()
}

fn head(status: u16) -> String {
    format!("HTTP/1.1 {status} Answer\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

fn read_question(stream: &mut impl Read) -> io::Result<Asked> {
    let text = http::read_head(stream)?;
    let mut lines = text.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let mut word = || words.next().unwrap_or_default().to_owned();
    let (method, target) = (word(), word());
    let headers = lines.filter(|line| !line.is_empty()).map(str::to_owned).collect();
    Ok(Asked { method, target, headers })
}
