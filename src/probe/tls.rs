//! TLS: the one place where a client's configuration is built.
//!
//! Roots are the built-in ones, the system's where it has any, and the user's. Configurations are built once and shared;
//! an exchange puts its own [`Witness`] in front of the verifier, which keeps the leaf's hash also when it does not verify.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

use aws_lc_rs::digest;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs as provider},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};

use super::{HttpChoice, SetupError};
use crate::model::HelloKind;

/// Everything that exchanges share of TLS.
pub(super) struct Tls {
    verifier: Arc<WebPkiServerVerifier>,
    /// Small and large hello, each for HTTP/1.1 and HTTP/2.
    configs: [[ClientConfig; 2]; 2],
}

impl Tls {
    pub(super) fn new(ca_file: Option<&Path>) -> Result<Self, SetupError> {
        let small = Arc::new(crypto(HelloKind::Small));
        let large = Arc::new(crypto(HelloKind::Large));
        let roots = Arc::new(roots(ca_file)?);
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&small))
            .build()
            .map_err(|error| SetupError::Tls { reason: error.to_string() })?;
        let both = |crypto: &Arc<CryptoProvider>| -> Result<_, SetupError> {
            Ok([
                config(crypto, &verifier, &[b"http/1.1"])?,
                config(crypto, &verifier, &[b"h2", b"http/1.1"])?,
            ])
        };
        let configs = [both(&small)?, both(&large)?];
        Ok(Self { verifier, configs })
    }

    /// A configuration for HTTP that is not itself the measurement: no protocol chosen.
    pub(super) fn plain_config(&self, check: bool) -> ClientConfig {
        let (config, _) = self.for_exchange(HelloKind::Small, HttpChoice::Http1, check);
        let mut config = (*config).clone();
        config.alpn_protocols.clear();
        config
    }

    /// The configuration of one exchange, and the witness that stands in it.
    pub(super) fn for_exchange(
        &self,
        hello: HelloKind,
        http: HttpChoice,
        check: bool,
    ) -> (Arc<ClientConfig>, Arc<Witness>) {
        let witness =
            Arc::new(Witness { verifier: Arc::clone(&self.verifier), check, leaf_sha256: OnceLock::new() });
        let mut config = self.configs[hello as usize][http as usize].clone();
        config.dangerous().set_certificate_verifier(Arc::clone(&witness) as Arc<dyn ServerCertVerifier>);
        (Arc::new(config), witness)
    }
}

/// The small hello offers elliptic curves alone and so fits one segment; the large one leads with the hybrid
/// post-quantum share, as browsers do.
fn crypto(hello: HelloKind) -> CryptoProvider {
    use provider::kx_group::{SECP256R1, SECP384R1, X25519, X25519MLKEM768};
    let kx_groups = match hello {
        HelloKind::Small => vec![X25519, SECP256R1, SECP384R1],
        HelloKind::Large => vec![X25519MLKEM768, X25519, SECP256R1, SECP384R1],
    };
    CryptoProvider { kx_groups, ..provider::default_provider() }
}

fn config(
    crypto: &Arc<CryptoProvider>,
    verifier: &Arc<WebPkiServerVerifier>,
    protocols: &[&[u8]],
) -> Result<ClientConfig, SetupError> {
    let mut config = ClientConfig::builder_with_provider(Arc::clone(crypto))
        .with_safe_default_protocol_versions()
        .map_err(|error| SetupError::Tls { reason: error.to_string() })?
        .with_webpki_verifier(Arc::clone(verifier))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, SetupError> {
    let mut store = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    // The system may have none (a scratch image); the built-in ones stand.
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        let fail = |reason: String| SetupError::CaFile { path: path.to_owned(), reason };
        let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect)
            .map_err(|error| fail(error.to_string()))?;
        if certificates.is_empty() {
            return Err(fail("it holds no PEM certificate".to_owned()));
        }
        for certificate in certificates {
            store.add(certificate).map_err(|error| fail(error.to_string()))?;
        }
    }
    Ok(store)
}

/// Remembers the leaf of one handshake, and checks it where that is wanted.
#[derive(Debug)]
pub(super) struct Witness {
    verifier: Arc<WebPkiServerVerifier>,
    check: bool,
    leaf_sha256: OnceLock<digest::Digest>,
}

impl Witness {
    /// SHA-256 of the leaf that was shown.
    pub(super) fn leaf_sha256(&self) -> Option<&[u8]> {
        self.leaf_sha256.get().map(AsRef::as_ref)
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.leaf_sha256.get_or_init(|| digest::digest(&digest::SHA256, leaf));
        if self.check {
            self.verifier.verify_server_cert(leaf, chain, name, ocsp, now)
        } else {
            Ok(ServerCertVerified::assertion())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
