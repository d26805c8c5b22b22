//! Certificates by openssl: made, and as a port shows them.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::clients::tool;
use crate::process::Process;

/// Makes a certificate of its own authority, which may sign nothing else, for two days; `subject`
/// as in `/CN=a`, `name` as in `DNS:localhost` or `IP:127.0.0.1`. `None` without openssl.
pub fn self_signed(certificate: &Path, key: &Path, subject: &str, name: &str) -> Option<()> {
    let mut command = Command::new(tool("openssl")?);
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    command.args(["-nodes", "-days", "2", "-subj", subject, "-addext"]);
    command.arg(format!("subjectAltName={name}"));
    command.args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"]).arg(key);
    command.arg("-out").arg(certificate);
    let made = Process::run("openssl req", command, Duration::from_secs(20));
    assert!(made.status.success(), "{}", made.stderr);
    Some(())
}

/// The certificate a port of this machine shows, in PEM; empty while it shows none.
pub fn shown(port: u16) -> String {
    let shown = Command::new("openssl")
        .args(["s_client", "-connect", &format!("127.0.0.1:{port}")])
        .stdin(Stdio::null())
        .output()
        .expect("openssl runs");
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    let begin = text.find("-----BEGIN CERTIFICATE-----").unwrap_or_default();
    let end = text.find("-----END CERTIFICATE-----").unwrap_or_default();
    text[begin..end].to_owned()
}
