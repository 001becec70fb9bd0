//! From what the system and TLS say to our own vocabulary.

use std::io::{self, ErrorKind};

use rustls::{CertificateError, Error as TlsError};

use crate::model::{Failure, FailureDetail, FailureKind, Phase};

pub(super) const fn of(phase: Phase, kind: FailureKind) -> Failure {
    Failure { phase, kind, detail: None }
}

/// Our own machine could not do its part.
pub(super) fn local(phase: Phase, error: &io::Error) -> Failure {
    let detail = match (error.raw_os_error(), error.kind()) {
        (Some(libc::EMFILE | libc::ENFILE), _) => Some(FailureDetail::Descriptors),
        (Some(libc::ENODEV | libc::ENXIO), _) | (_, ErrorKind::PermissionDenied) => {
            Some(FailureDetail::Permission)
        }
        _ => None,
    };
    Failure { detail, ..of(phase, FailureKind::Local) }
}

/// What a failed `connect` means.
pub(super) fn connect(error: &io::Error) -> Failure {
    let kind = match error.kind() {
        ErrorKind::ConnectionRefused => FailureKind::Refused,
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => {
            FailureKind::Unreachable
        }
        ErrorKind::TimedOut => FailureKind::Timeout,
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => FailureKind::Reset,
        _ => return local(Phase::Connect, error),
    };
    of(Phase::Connect, kind)
}

/// What a socket's failure on an established connection means.
pub(super) fn socket(phase: Phase, kind: ErrorKind) -> Failure {
    let kind = match kind {
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted => {
            FailureKind::Reset
        }
        ErrorKind::TimedOut => FailureKind::Timeout,
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => {
            FailureKind::Unreachable
        }
        _ => FailureKind::Local,
    };
    of(phase, kind)
}

/// What a failure of TLS means.
pub(super) fn tls(phase: Phase, error: &TlsError) -> Failure {
    match error {
        TlsError::AlertReceived(alert) => Failure {
            detail: Some(FailureDetail::Alert(u8::from(*alert))),
            ..of(phase, FailureKind::TlsAlert)
        },
        TlsError::InvalidCertificate(error) => {
            Failure { detail: Some(certificate(error)), ..of(phase, FailureKind::BadCertificate) }
        }
        TlsError::NoCertificatesPresented => Failure {
            detail: Some(FailureDetail::OtherCertificate),
            ..of(phase, FailureKind::BadCertificate)
        },
        _ => of(phase, FailureKind::Malformed),
    }
}

fn certificate(error: &CertificateError) -> FailureDetail {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => FailureDetail::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            FailureDetail::NotYetValid
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            FailureDetail::WrongName
        }
        CertificateError::UnknownIssuer => FailureDetail::UnknownIssuer,
        // rustls passes this one on without a name of its own; its text is the variant's name in `webpki`.
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            FailureDetail::CaAsServer
        }
        _ => FailureDetail::OtherCertificate,
    }
}
