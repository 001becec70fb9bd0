//! From targets to legs: each subject joined with its controls.

use crate::{
    methods::Leg,
    model::{Role, Target, TargetId},
    probe::ConnectTo,
};

use super::oneshot::Subject;

/// A target joined with those of its controls that `find` knows, best first.
pub fn subject<'a>(target: &Target, find: impl Fn(&TargetId) -> Option<&'a Target>) -> Subject {
    Subject {
        leg: leg(target, Role::Subject),
        controls: target.controls.iter().filter_map(find).map(control_leg).collect(),
        same_server: false,
        repeat: format!("throttlescope measure {}", target.id),
    }
}

/// A target as somebody's control.
pub fn control_leg(target: &Target) -> Leg {
    leg(target, Role::Control)
}

fn leg(target: &Target, role: Role) -> Leg {
    let mut leg = Leg::new(target.id.clone(), role, target.url.clone());
    leg.check_certificate = target.check_certificate;
    leg
}

/// Two names on one server, of which each is asked for the same `path` under the same `host`: they differ in the name
/// alone. The names need not be the server's own, so that certificates are not checked.
pub fn same_server(id: TargetId, server: &url::Url, host: &str, subject: &str, control: &str) -> Subject {
    let leg = |id: TargetId, role: Role, name: &str| {
        let mut leg = Leg::new(id, role, server.clone());
        leg.name = Some(name.to_owned());
        leg.host_header = Some(host.to_owned());
        leg.check_certificate = false;
        leg
    };
    Subject {
        leg: leg(id, Role::Subject, subject),
        controls: vec![leg(TargetId::new(control), Role::Control, control)],
        same_server: true,
        repeat: String::new(),
    }
}

/// Where targets with a `connect_to` are to be reached, as the prober understands it.
pub fn connect_to(targets: &[Target]) -> Vec<ConnectTo> {
    let entry = |target: &Target| {
        let (host, port) = target.connect_to.as_deref()?.rsplit_once(':')?;
        Some(ConnectTo {
            from_host: target.url.host_str().map(str::to_owned),
            from_port: target.url.port_or_known_default(),
            to_host: Some(host.trim_matches(['[', ']']).to_owned()),
            to_port: port.parse().ok(),
        })
    };
    targets.iter().filter_map(entry).collect()
}
