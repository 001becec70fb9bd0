//! Where a host is, as the system would find it, but freshly each time: no cache, and the kinds of failure told apart.
//!
//! The system's configuration is read again when its files have changed, because a daemon outlives many networks.

use std::{
    fs,
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use hickory_resolver::{
    Resolver, TokioResolver,
    config::{LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts},
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::op::ResponseCode,
    system_conf::read_system_conf,
};

use super::failure::{local, of};
use crate::model::{Failure, FailureDetail, FailureKind, Family, Phase};

/// What tells that the system's configuration changed.
type Stamp = [Option<(SystemTime, u64)>; 2];

/// The resolver with the system's configuration.
pub(super) struct Names {
    family: Option<Family>,
    current: Mutex<Option<(Stamp, Arc<TokioResolver>)>>,
}

impl Names {
    pub(super) const fn new(family: Option<Family>) -> Self {
        Self { family, current: Mutex::new(None) }
    }

    /// The host's addresses, best first.
    pub(super) async fn look_up(&self, host: &str) -> Result<Vec<IpAddr>, Failure> {
        let resolver = self.resolver().map_err(|error| classify(&error))?;
        let found = resolver.lookup_ip(host).await.map_err(|error| classify(&error))?;
        let addresses: Vec<IpAddr> = found.iter().collect();
        if addresses.is_empty() {
            Err(of(Phase::Resolve, FailureKind::NoAddress))
        } else {
            Ok(order(addresses))
        }
    }

    fn resolver(&self) -> Result<Arc<TokioResolver>, NetError> {
        let stamp = ["/etc/resolv.conf", "/etc/hosts"].map(|file| {
            let metadata = fs::metadata(file).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        });
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, resolver)) = &*current
            && *known == stamp
        {
            return Ok(Arc::clone(resolver));
        }
        let resolver = Arc::new(build(self.family)?);
        *current = Some((stamp, Arc::clone(&resolver)));
        Ok(resolver)
    }
}

fn build(family: Option<Family>) -> Result<TokioResolver, NetError> {
    // Without a name server the system's resolver asks this machine (resolv.conf(5)).
    let (config, mut options) = read_system_conf().unwrap_or_else(|_| {
        let own = NameServerConfig::udp_and_tcp(Ipv4Addr::LOCALHOST.into());
        (ResolverConfig::from_parts(None, Vec::new(), vec![own]), ResolverOpts::default())
    });
    options.cache_size = 0;
    options.ip_strategy = match family {
        Some(Family::Ipv4) => LookupIpStrategy::Ipv4Only,
        Some(Family::Ipv6) => LookupIpStrategy::Ipv6Only,
        None => LookupIpStrategy::Ipv4AndIpv6,
    };
    let provider = TokioRuntimeProvider::default();
    Resolver::builder_with_config(config, provider).with_options(options).build()
}

/// IPv6 first where this machine has a way to it, else IPv4 (RFC 6724: what cannot be reached goes last).
fn order(mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let six = addresses.iter().copied().find(IpAddr::is_ipv6);
    let six_first = six.is_some_and(has_route);
    addresses.sort_by_key(|address| address.is_ipv6() != six_first);
    addresses
}

/// Connecting a datagram socket asks the routing table and sends nothing.
fn has_route(address: IpAddr) -> bool {
    UdpSocket::bind("[::]:0").and_then(|socket| socket.connect(SocketAddr::new(address, 443))).is_ok()
}

fn classify(error: &NetError) -> Failure {
    let kind = match error {
        _ if error.is_nx_domain() => FailureKind::Nxdomain,
        NetError::Timeout => FailureKind::Timeout,
        NetError::Dns(DnsError::NoRecordsFound(none)) => return no_address(none.response_code),
        NetError::Dns(DnsError::ResponseCode(code)) => return no_address(*code),
        NetError::Io(error) => return io_failure(error),
        // Says no more than that no name server took the question.
        NetError::NoConnections | NetError::Busy => FailureKind::Unreachable,
        NetError::Proto(_)
        | NetError::Truncated
        | NetError::QueryCaseMismatch
        | NetError::ForeignClassRecord { .. } => FailureKind::Malformed,
        _ => FailureKind::NoAddress,
    };
    of(Phase::Resolve, kind)
}

fn no_address(code: ResponseCode) -> Failure {
    let detail = (code != ResponseCode::NoError).then(|| FailureDetail::ResolverError(u16::from(code)));
    Failure { detail, ..of(Phase::Resolve, FailureKind::NoAddress) }
}

fn io_failure(error: &io::Error) -> Failure {
    let kind = match error.kind() {
        ErrorKind::ConnectionRefused => FailureKind::Refused,
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => FailureKind::Unreachable,
        ErrorKind::TimedOut => FailureKind::Timeout,
        ErrorKind::InvalidData => FailureKind::Malformed,
        ErrorKind::ConnectionReset => FailureKind::Reset,
        ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe => FailureKind::Closed,
        _ => return local(Phase::Resolve, error),
    };
    of(Phase::Resolve, kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_resolver_failures_apart() {
        let refused = NetError::from(io::Error::from(ErrorKind::ConnectionRefused));
        assert_eq!(classify(&refused).kind, FailureKind::Refused);
        assert_eq!(classify(&NetError::Timeout).kind, FailureKind::Timeout);
        assert_eq!(classify(&NetError::NoConnections).kind, FailureKind::Unreachable);
        let servfail = NetError::Dns(DnsError::ResponseCode(ResponseCode::ServFail));
        assert_eq!(classify(&servfail).detail, Some(FailureDetail::ResolverError(2)));
        assert_eq!(classify(&servfail).kind, FailureKind::NoAddress);
    }

    #[tokio::test]
    async fn knows_the_hosts_file() {
        let names = Names::new(Some(Family::Ipv4));
        assert_eq!(names.look_up("localhost").await.unwrap(), [IpAddr::from(Ipv4Addr::LOCALHOST)]);
    }
}
