//! Where to connect: `--connect-to` and `--resolve`, as curl has them.

use std::net::IpAddr;

use url::{Host, Url};

use super::Options;

/// Where an exchange goes before any name is looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    /// What to look up, unless `addresses` are known.
    pub(super) host: String,
    pub(super) port: u16,
    /// Known without a lookup: a literal, or given by `--resolve`.
    pub(super) addresses: Option<Vec<IpAddr>>,
}

impl Route {
    /// First `--connect-to` replaces host and port, then `--resolve` is asked for the result.
    pub(super) fn of(url: &Url, options: &Options) -> Self {
        let from_host = host(url);
        let from_port = url.port_or_known_default().unwrap_or(443);
        let matching = options.connect_to.iter().find(|rule| {
            rule.from_host.as_deref().is_none_or(|name| same(name, &from_host))
                && rule.from_port.is_none_or(|port| port == from_port)
        });
        let to_host = matching.and_then(|rule| rule.to_host.as_deref()).unwrap_or(&from_host);
        let host = bare(to_host).to_owned();
        let port = matching.and_then(|rule| rule.to_port).unwrap_or(from_port);
        let given = |any: bool| {
            let rule = options.resolve.iter().find(|rule| {
                rule.port == port && if any { rule.host == "*" } else { same(&rule.host, &host) }
            });
            rule.map(|rule| rule.addresses.clone())
        };
        let literal = host.parse().ok().map(|address| vec![address]);
        let addresses = literal.or_else(|| given(false)).or_else(|| given(true));
        Self { host, port, addresses }
    }
}

/// The URL's host without brackets and without a final dot.
pub(super) fn host(url: &Url) -> String {
    match url.host() {
        Some(Host::Domain(name)) => name.trim_end_matches('.').to_owned(),
        Some(Host::Ipv4(address)) => address.to_string(),
        Some(Host::Ipv6(address)) => address.to_string(),
        None => String::new(),
    }
}

fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host)
}

fn same(a: &str, b: &str) -> bool {
    bare(a).trim_end_matches('.').eq_ignore_ascii_case(bare(b).trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{ConnectTo, ResolveOverride},
        *,
    };

    fn route(url: &str, options: &Options) -> Route {
        Route::of(&Url::parse(url).unwrap(), options)
    }

    #[test]
    fn connect_to_then_resolve() {
        let options = Options {
            connect_to: vec![ConnectTo {
                from_host: Some("a.example".into()),
                from_port: Some(443),
                to_host: Some("b.example".into()),
                to_port: Some(8443),
            }],
            resolve: vec![
                ResolveOverride {
                    host: "*".into(),
                    port: 8443,
                    addresses: vec!["192.0.2.9".parse().unwrap()],
                },
                ResolveOverride {
                    host: "b.example".into(),
                    port: 8443,
                    addresses: vec!["192.0.2.1".parse().unwrap()],
                },
            ],
            ..Options::default()
        };
        let changed = route("https://A.example/x", &options);
        assert_eq!((changed.host.as_str(), changed.port), ("b.example", 8443));
        assert_eq!(changed.addresses, Some(vec!["192.0.2.1".parse().unwrap()]));
        let any = route("https://c.example:8443/", &options);
        assert_eq!(any.addresses, Some(vec!["192.0.2.9".parse().unwrap()]));
        assert_eq!(route("https://c.example/", &options).addresses, None);
    }

    #[test]
    fn a_literal_is_known() {
        let six = route("http://[::1]:8080/", &Options::default());
        assert_eq!((six.port, six.addresses), (8080, Some(vec!["::1".parse().unwrap()])));
    }
}
