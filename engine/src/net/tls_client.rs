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
pub struct TlsClient(HashMap<Option<PathBuf>, Arc<ClientConfig>>);

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
        for file in authorities {
            if let Entry::Vacant(place) = configs.entry(file) {
                let own = place.key().as_deref().or(ssl.client_ca.as_deref());
                let config = config(own, ssl)?;
                place.insert(Arc::new(config));
            }
        }
        Ok(Self(configs))
    }

    /// The client side of a new connection to `host`, whose certificate must name it.
    ///
    /// # Errors
    /// The name cannot be in a certificate, or its authorities were not loaded.
    pub fn connect(&self, authorities: Option<&Path>, host: &str) -> Result<TlsCodec, TlsError> {
        let general = |what: &str| rustls::Error::General(what.to_owned());
        let config = self.0.get(&authorities.map(Path::to_path_buf));
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

fn config(file: Option<&Path>, ssl: &Ssl) -> Result<ClientConfig, TlsError> {
    let path = match file {
        Some(path) => path.to_path_buf(),
        None => platform_bundle(),
    };
    let bytes = read(&path)?;
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
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(cert)?).collect();
    let chain = chain.map_err(|source| pem(cert, source))?;
    let key = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|source| pem(key, source))?;
    Ok(builder.with_client_auth_cert(chain, key)?)
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::File { path: path.to_path_buf(), source })
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
}
