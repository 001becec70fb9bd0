//! The certificate for a name: made on the spot, or the volunteer's own.
//!
//! Made ones share one key and are signed by an authority that lives only as long as the process, so that a name seen
//! for the first time costs one signature, and both legs of a comparison wait alike. The cache is bounded: when full it
//! starts over.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SerialNumber,
};
use rustls::{
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::{CertifiedKey, SigningKey},
};

use super::ServeError;

/// Certificates kept at once.
const CACHE_MAX: usize = 1024;

/// The name on the certificate for a client that shows none.
const NAMELESS: &str = "measurement.invalid";

/// Where certificates come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Certificate {
    /// Made for each name as it is asked for.
    #[default]
    Made,
    /// One for every name, from PEM files.
    Given {
        /// The chain, the server's certificate first.
        chain: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
}

/// Makes certificates for any name.
#[derive(Debug)]
pub(super) struct Maker {
    authority: Issuer<'static, KeyPair>,
    authority_pem: String,
    key: KeyPair,
    signing_key: Arc<dyn SigningKey>,
    made: Mutex<HashMap<String, Arc<CertifiedKey>>>,
}

impl Maker {
    pub(super) fn new() -> Result<Self, ServeError> {
        let authority_key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        limit_validity(&mut params);
        params.distinguished_name.push(DnType::CommonName, "throttlescope measurement server");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority_pem = params.self_signed(&authority_key)?.pem();
        let key = KeyPair::generate()?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signing_key = aws_lc_rs::sign::any_supported_type(&der)?;
        let authority = Issuer::new(params, authority_key);
        Ok(Self { authority, authority_pem, key, signing_key, made: Mutex::default() })
    }

    /// The authority's certificate, for clients of the same process that want to check.
    pub(super) fn authority_pem(&self) -> &str {
        &self.authority_pem
    }

    fn certificate(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = made.get(name) {
            return Some(Arc::clone(known));
        }
        let fresh = Arc::new(self.make(name).ok()?);
        if made.len() >= CACHE_MAX {
            made.clear();
        }
        made.insert(name.to_owned(), Arc::clone(&fresh));
        Some(fresh)
    }

    fn make(&self, name: &str) -> Result<CertifiedKey, rcgen::Error> {
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        limit_validity(&mut params);
        // A common name holds 64 characters; the alternative name is what clients read.
        params.distinguished_name.push(DnType::CommonName, "throttlescope measurement");
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        // By default the serial number comes from the key, which is the same for all.
        let digest = ::aws_lc_rs::digest::digest(&::aws_lc_rs::digest::SHA256, name.as_bytes());
        params.serial_number = Some(SerialNumber::from_slice(&digest.as_ref()[..16]));
        let certificate = params.signed_by(&self.key, &self.authority)?;
        Ok(CertifiedKey::new(vec![certificate.der().clone()], Arc::clone(&self.signing_key)))
    }
}

impl ResolvesServerCert for Maker {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.certificate(hello.server_name().unwrap_or(NAMELESS))
    }
}

/// A given certificate, which can be read again while connections go on.
#[derive(Debug)]
pub(super) struct Given {
    chain: PathBuf,
    key: PathBuf,
    current: ArcSwap<CertifiedKey>,
}

impl Given {
    pub(super) fn read(chain: PathBuf, key: PathBuf) -> Result<Self, ServeError> {
        let current = ArcSwap::from_pointee(read_pair(&chain, &key)?);
        Ok(Self { chain, key, current })
    }

    /// Reads both files again; on an error the old certificate stays.
    pub(super) fn reload(&self) -> Result<(), ServeError> {
        self.current.store(Arc::new(read_pair(&self.chain, &self.key)?));
        Ok(())
    }
}

impl ResolvesServerCert for Given {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

fn read_pair(chain: &PathBuf, key: &PathBuf) -> Result<CertifiedKey, ServeError> {
    let unreadable = |file: &PathBuf| {
        let file = file.clone();
        move |source| ServeError::Pem { file, source }
    };
    let certificates = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(unreadable(chain))?;
    if certificates.is_empty() {
        return Err(unreadable(chain)(rustls::pki_types::pem::Error::NoItemsFound));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(unreadable(key))?;
    CertifiedKey::from_der(certificates, private, &aws_lc_rs::default_provider())
        .map_err(|source| ServeError::Mismatch { chain: chain.clone(), key: key.clone(), source })
}

/// Long before any volunteer's clock and within what two-digit years can say.
fn limit_validity(params: &mut CertificateParams) {
    params.not_before = rcgen::date_time_ymd(2021, 1, 1);
    params.not_after = rcgen::date_time_ymd(2049, 1, 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_made_once() {
        let maker = Maker::new().unwrap();
        let first = maker.certificate("a.example").unwrap();
        assert!(Arc::ptr_eq(&first, &maker.certificate("a.example").unwrap()));
        assert_ne!(first.cert, maker.certificate("b.example").unwrap().cert);
    }

    #[test]
    fn the_cache_is_bounded() {
        let maker = Maker::new().unwrap();
        for number in 0..CACHE_MAX + 10 {
            maker.certificate(&format!("n{number}.example")).unwrap();
        }
        assert!(maker.made.lock().unwrap().len() <= CACHE_MAX);
    }
}
