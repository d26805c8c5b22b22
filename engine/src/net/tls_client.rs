//! TLS towards those that are dialled: whom to trust, who we are, and the client side of a
//! connection.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use sha2::{Digest as _, Sha256};

use super::tls::{TlsCodec, TlsError};
use crate::config::model::Ssl;

/// Where distributions keep the authorities they trust.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// One configuration per set of authorities: that of the configuration (`None`), or a file.
#[derive(Default)]
pub struct TlsClient {
    configs: HashMap<Option<PathBuf>, Arc<ClientConfig>>,
    /// Digest of the files they were made from.
    files: [u8; 32],
}

impl TlsClient {
    /// Reads the authorities of all entries; where one names none they are those of `ssl`, or else
    /// of the platform.
    ///
    /// # Errors
    /// A file is unusable, or the platform has none that is known.
    pub fn load(
        ssl: &Ssl,
        authorities: impl IntoIterator<Item = Option<PathBuf>>,
    ) -> Result<Self, TlsError> {
        let mut configs = HashMap::new();
        let mut files = Files::default();
        for file in authorities {
            if let Entry::Vacant(place) = configs.entry(file) {
                let own = place.key().as_deref().or(ssl.client_ca.as_deref());
                let config = config(own, ssl, &mut files)?;
                place.insert(Arc::new(config));
            }
        }
        Ok(Self { configs, files: files.0.finalize().into() })
    }

    /// Made from files that say the same, so that those who are dialled see no difference.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.files == other.files
    }

    /// The client side of a new connection to `host`, whose certificate must name it.
    ///
    /// # Errors
    /// The name cannot be in a certificate, or its authorities were not loaded.
    pub fn connect(&self, authorities: Option<&Path>, host: &str) -> Result<TlsCodec, TlsError> {
        let general = |what: &str| rustls::Error::General(what.to_owned());
        let config = self.configs.get(&authorities.map(Path::to_path_buf));
        let config = config.ok_or_else(|| general("no authorities for this source"))?;
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| general("the host cannot be named by a certificate"))?;
        let mut conn = ClientConnection::new(Arc::clone(config), name)?;
        // As for servers: what is encrypted is taken out at once.
        conn.set_buffer_limit(None);
        Ok(TlsCodec::new(conn.into()))
    }
}

/// The authorities of the platform.
pub(crate) fn platform_bundle() -> PathBuf {
    let there = BUNDLES.iter().map(Path::new).find(|path| path.exists());
    there.unwrap_or(Path::new(BUNDLES[0])).to_path_buf()
}

/// Digest of all that was read.
#[derive(Default)]
struct Files(Sha256);

impl Files {
    fn read(&mut self, path: &Path) -> Result<Vec<u8>, TlsError> {
        let file = |source| TlsError::File { path: path.to_path_buf(), source };
        let bytes = fs::read(path).map_err(file)?;
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(&bytes);
        Ok(bytes)
    }
}

fn config(file: Option<&Path>, ssl: &Ssl, files: &mut Files) -> Result<ClientConfig, TlsError> {
    let path = match file {
        Some(path) => path.to_path_buf(),
        None => platform_bundle(),
    };
    let bytes = files.read(&path)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        let certificate =
            certificate.map_err(|source| TlsError::Pem { path: path.clone(), source })?;
        // A bundle may hold some that are too old to be read; none at all is an error.
        if let Err(error) = roots.add(certificate) {
            tracing::debug!(path = %path.display(), %error, "authority passed over");
        }
    }
    if roots.is_empty() {
        return Err(TlsError::Pem { path, source: pem::Error::NoItemsFound });
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_root_certificates(roots);
    let (Some(cert), Some(key)) = (&ssl.client_cert, &ssl.client_key) else {
        return Ok(builder.with_no_client_auth());
    };
    let pem = |path: &Path, source| TlsError::Pem { path: path.to_path_buf(), source };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&files.read(cert)?).collect();
    let chain = chain.map_err(|source| pem(cert, source))?;
    let key =
        PrivateKeyDer::from_pem_slice(&files.read(key)?).map_err(|source| pem(key, source))?;
    Ok(builder.with_client_auth_cert(chain, key)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_loaded_is_trusted_and_only_names_are_asked_for() {
        let missing = TlsClient::load(&Ssl::default(), [Some(PathBuf::from("no-such-file.pem"))]);
        assert!(matches!(missing, Err(TlsError::File { .. })));
        let none = TlsClient::load(&Ssl::default(), []).unwrap();
        assert!(none.connect(None, "example.org").is_err());
    }

    #[test]
    fn files_that_say_something_else_under_the_same_name_are_another_client() {
        let folder = std::env::temp_dir().join(format!("tls-client-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = |name: &str| Some(folder.join(name));
        let renew = |name: &str| {
            let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
            fs::write(folder.join(format!("{name}.crt")), made.cert.pem()).unwrap();
            fs::write(folder.join(format!("{name}.key")), made.signing_key.serialize_pem())
                .unwrap();
        };
        let ssl = Ssl {
            client_ca: path("ca.crt"),
            client_cert: path("own.crt"),
            client_key: path("own.key"),
            ..Ssl::default()
        };
        let load = || TlsClient::load(&ssl, [None]).unwrap();
        ["ca", "own"].into_iter().for_each(renew);
        let first = load();
        assert!(first.is_same(&load()));
        for name in ["ca", "own"] {
            let before = load();
            renew(name);
            assert!(!load().is_same(&before), "{name}");
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
