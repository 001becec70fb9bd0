//! `tls_server_config` to a rustls server configuration.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::{ParsedCertificate, WebPkiClientVerifier},
    version::{TLS12, TLS13},
};
use serde::Deserialize;

use super::{WebError, settings::read};

/// The section as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TlsServerConfig {
    cert: Option<String>,
    key: Option<String>,
    client_ca: Option<String>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    client_auth_type: Option<String>,
    client_ca_file: Option<PathBuf>,
    #[serde(default)]
    client_allowed_sans: Vec<String>,
    min_version: Option<String>,
    max_version: Option<String>,
    #[serde(default)]
    cipher_suites: Vec<String>,
    #[serde(default = "yes")]
    prefer_server_cipher_suites: bool,
    #[serde(default)]
    curve_preferences: Vec<String>,
}

const fn yes() -> bool {
    true
}

/// A ready configuration.
#[derive(Debug, Clone)]
pub(super) struct Tls {
    pub(super) server: Arc<ServerConfig>,
    /// Names of which a client's certificate must carry one; empty: any.
    allowed_names: Vec<ServerName<'static>>,
}

impl Tls {
    /// Whether the client's certificate is for an allowed name.
    pub(super) fn admits(&self, certificates: Option<&[CertificateDer<'_>]>) -> bool {
        if self.allowed_names.is_empty() {
            return true;
        }
        let Some(Ok(leaf)) = certificates.and_then(<[_]>::first).map(ParsedCertificate::try_from) else {
            return false;
        };
        self.allowed_names.iter().any(|name| rustls::client::verify_server_name(&leaf, name).is_ok())
    }
}

/// Reads certificates and keys and builds the configuration; `files` gets every file that was read.
pub(super) fn build(
    config: &TlsServerConfig,
    folder: &Path,
    http2: bool,
    files: &mut Vec<PathBuf>,
    invalid: &impl Fn(String) -> WebError,
) -> Result<Tls, WebError> {
    let mut pem = |inline: &Option<String>, file: &Option<PathBuf>, key: &str| match (inline, file) {
        (Some(_), Some(_)) => {
            Err(invalid(format!("tls_server_config: `{key}` and `{key}_file` cannot both be set")))
        }
        (Some(text), None) => Ok(Some(text.clone())),
        (None, Some(file)) => {
            let path = folder.join(file);
            files.push(path.clone());
            read(&path).map(Some)
        }
        (None, None) => Ok(None),
    };
    let missing = |key: &str| invalid(format!("tls_server_config: `{key}_file` (or `{key}`) is needed"));
    let certificate = pem(&config.cert, &config.cert_file, "cert")?.ok_or_else(|| missing("cert"))?;
    let key = pem(&config.key, &config.key_file, "key")?.ok_or_else(|| missing("key"))?;
    let client_ca = pem(&config.client_ca, &config.client_ca_file, "client_ca")?;

    let chain = certificates(&certificate, "cert").map_err(invalid)?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|error| invalid(format!("tls_server_config: the key cannot be read: {error}")))?;
    let provider = Arc::new(provider(config).map_err(invalid)?);
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions(config).map_err(invalid)?)
        .map_err(|error| invalid(format!("tls_server_config: {error}")))?;
    let verifier = client_verifier(config, client_ca.as_deref(), provider).map_err(invalid)?;
    let mut server = builder
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| invalid(format!("tls_server_config: certificate and key do not work: {error}")))?;
    server.ignore_client_order = config.prefer_server_cipher_suites;
    server.alpn_protocols =
        if http2 { vec![b"h2".into(), b"http/1.1".into()] } else { vec![b"http/1.1".into()] };
    Ok(Tls { server: Arc::new(server), allowed_names: allowed_names(config).map_err(invalid)? })
}

fn certificates(pem: &str, key: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(format!("tls_server_config: `{key}` holds no certificate in PEM form")),
        Err(error) => Err(format!("tls_server_config: `{key}` cannot be read: {error}")),
    }
}

fn versions(config: &TlsServerConfig) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
    let number = |configured: &Option<String>, default: u8, key: &str| match configured.as_deref() {
        None => Ok(default),
        Some("TLS12") => Ok(2),
        Some("TLS13") => Ok(3),
        Some(other) => Err(format!("tls_server_config.{key}: `{other}` is not TLS12 or TLS13")),
    };
    let range =
        number(&config.min_version, 2, "min_version")?..=number(&config.max_version, 3, "max_version")?;
    if range.is_empty() {
        return Err("tls_server_config: min_version is above max_version".into());
    }
    Ok([(2, &TLS12), (3, &TLS13)]
        .into_iter()
        .filter(|(number, _)| range.contains(number))
        .map(|(_, v)| v)
        .collect())
}

/// The crypto provider, narrowed to the configured suites and groups. Names are Go's, as in exporter-toolkit.
fn provider(config: &TlsServerConfig) -> Result<CryptoProvider, String> {
    let mut provider = aws_lc_rs::default_provider();
    if !config.cipher_suites.is_empty() {
        let all = std::mem::take(&mut provider.cipher_suites);
        for name in &config.cipher_suites {
            let suite = all.iter().find(|suite| {
                // rustls writes TLS13_AES_…, the rest of the world TLS_AES_…; Go leaves `_SHA256` off ChaCha20.
                let own = format!("{:?}", suite.suite()).replace("TLS13_", "TLS_");
                own == *name || own.strip_suffix("_SHA256") == Some(name)
            });
            let suite =
                suite.ok_or_else(|| format!("tls_server_config.cipher_suites: `{name}` is not supported"))?;
            provider.cipher_suites.push(*suite);
        }
    }
    if !config.curve_preferences.is_empty() {
        let all = std::mem::take(&mut provider.kx_groups);
        for name in &config.curve_preferences {
            let own = match name.as_str() {
                "CurveP256" => "secp256r1",
                "CurveP384" => "secp384r1",
                other => other,
            };
            let group = all.iter().find(|group| format!("{:?}", group.name()) == own);
            let group = group
                .ok_or_else(|| format!("tls_server_config.curve_preferences: `{name}` is not supported"))?;
            provider.kx_groups.push(*group);
        }
    }
    Ok(provider)
}

fn client_verifier(
    config: &TlsServerConfig,
    client_ca: Option<&str>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, String> {
    let kind = config.client_auth_type.as_deref().unwrap_or("NoClientCert");
    let optional = match kind {
        "" | "NoClientCert" if client_ca.is_none() && config.client_allowed_sans.is_empty() => {
            return Ok(WebPkiClientVerifier::no_client_auth());
        }
        "" | "NoClientCert" => {
            return Err("tls_server_config: client_ca and client_allowed_sans need `client_auth_type: \
                        RequireAndVerifyClientCert`"
                .into());
        }
        "VerifyClientCertIfGiven" => true,
        "RequireAndVerifyClientCert" => false,
        other => {
            return Err(format!(
                "tls_server_config.client_auth_type: `{other}` is not NoClientCert, VerifyClientCertIfGiven or \
                 RequireAndVerifyClientCert"
            ));
        }
    };
    let pem = client_ca.ok_or_else(|| {
        format!("tls_server_config: `client_ca_file` (or `client_ca`) is needed with {kind}")
    })?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem, "client_ca")? {
        roots.add(certificate).map_err(|error| format!("tls_server_config: client_ca: {error}"))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if optional { builder.allow_unauthenticated() } else { builder };
    builder.build().map_err(|error| format!("tls_server_config: client_ca: {error}"))
}

fn allowed_names(config: &TlsServerConfig) -> Result<Vec<ServerName<'static>>, String> {
    let parse = |name: &String| {
        ServerName::try_from(name.clone()).map_err(|_| {
            format!("tls_server_config.client_allowed_sans: `{name}` is not a DNS name or an IP address")
        })
    };
    config.client_allowed_sans.iter().map(parse).collect()
}
