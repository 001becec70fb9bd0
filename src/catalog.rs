//! The built-in platforms, endpoints and controls, as data.
//!
//! `catalog/platforms.toml` is embedded and read at start; its comment says what the fields mean and which rules its
//! controls keep to. A configuration file adds to it, replaces single targets, or leaves it out.

mod file;

use crate::model::{EndpointKind, Target, TargetId};

pub use file::CatalogError;

const BUILTIN: &str = include_str!("catalog/platforms.toml");

/// Body bytes of a bulk exchange (design, section 4: enough to show a limit behind a free burst of 16 KB).
pub const BULK_BYTES: u64 = 128 * 1024;

/// Body bytes of a cheap exchange. Far below the 16 KiB that make it cheap: these endpoints show handshakes.
pub const CHEAP_BYTES: u64 = 4 * 1024;

/// What can be measured without a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalog {
    /// The platforms, best known first.
    pub platforms: Vec<Platform>,
    /// The controls that endpoints name, and the domestic ones.
    pub controls: Vec<Control>,
    /// Innocent names that a sloppy rule would hit as well.
    pub canaries: Vec<Canary>,
    /// The neutral controls of what names none of its own, best first.
    pub default_controls: Vec<TargetId>,
}

/// The embedded catalogue.
pub fn builtin() -> Catalog {
    Catalog::parse(BUILTIN).expect("the embedded catalogue is read by a test")
}

/// A service people know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// Its id: what stands before the slash in its targets' ids.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// The domains that belong to it, each with all that ends in it.
    pub domains: Vec<String>,
    /// Its endpoints; the first bulk one is the first choice.
    pub targets: Vec<Target>,
}

/// A control and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// The target.
    pub target: Target,
    /// On whose network it is.
    pub network: String,
    /// The country in which it is the domestic control; `None`: it is used everywhere.
    pub country: Option<String>,
}

/// A canary and the platform whose over-wide rule it would show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canary {
    /// The target.
    pub target: Target,
    /// The platform's id.
    pub of: String,
    /// The text that its name has in common with the platform's.
    pub token: String,
}

impl Platform {
    /// Whether a host name belongs to the platform.
    pub fn owns(&self, host: &str) -> bool {
        self.domains.iter().any(|domain| {
            host.strip_suffix(domain.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    }

    /// The endpoint to measure when only one is: media before pages.
    pub fn first_choice(&self) -> Option<&Target> {
        let bulk = || self.targets.iter().filter(|target| target.bytes >= BULK_BYTES);
        bulk()
            .find(|target| target.kind == EndpointKind::Media)
            .or_else(|| bulk().next())
            .or(self.targets.first())
    }
}

impl Catalog {
    /// A platform by id.
    pub fn platform(&self, id: &str) -> Option<&Platform> {
        self.platforms.iter().find(|platform| platform.id == id)
    }

    /// Any target by id: endpoint, control or canary.
    pub fn target(&self, id: &str) -> Option<&Target> {
        let endpoints = self.platforms.iter().flat_map(|platform| &platform.targets);
        let controls = self.controls.iter().map(|control| &control.target);
        let canaries = self.canaries.iter().map(|canary| &canary.target);
        endpoints.chain(controls).chain(canaries).find(|target| target.id.as_str() == id)
    }

    /// The domestic controls of a country, and none without one.
    pub fn domestic_controls(&self, country: Option<&str>) -> Vec<TargetId> {
        let is_domestic = |control: &&Control| country.is_some() && control.country.as_deref() == country;
        self.controls.iter().filter(is_domestic).map(|control| control.target.id.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const PLATFORMS: [&str; 16] = [
        "twitter",
        "facebook",
        "instagram",
        "whatsapp",
        "youtube",
        "telegram",
        "signal",
        "tiktok",
        "linkedin",
        "discord",
        "reddit",
        "vk",
        "ok",
        "threads",
        "bluesky",
        "snapchat",
    ];

    fn host(target: &Target) -> &str {
        target.url.host_str().unwrap()
    }

    #[test]
    fn every_platform_has_page_media_and_api_and_a_bulk_endpoint() {
        let catalog = builtin();
        let ids: Vec<&str> = catalog.platforms.iter().map(|platform| platform.id.as_str()).collect();
        assert_eq!(ids, PLATFORMS);
        for platform in &catalog.platforms {
            for kind in [EndpointKind::Page, EndpointKind::Media, EndpointKind::Api] {
                let has = platform.targets.iter().any(|target| target.kind == kind);
                assert!(has, "{} has no {kind:?} endpoint", platform.id);
            }
            let bulk = platform.targets.iter().any(|target| target.bytes >= BULK_BYTES);
            assert!(bulk, "{} has no bulk endpoint", platform.id);
            for target in &platform.targets {
                assert!(platform.owns(host(target)), "{} is not {}'s", host(target), platform.id);
                assert_eq!(target.id.platform(), Some(platform.id.as_str()));
            }
        }
        assert_eq!(
            catalog.platform("twitter").unwrap().first_choice().unwrap().id.as_str(),
            "twitter/images"
        );
    }

    #[test]
    fn ids_are_unique_and_controls_exist() {
        let catalog = builtin();
        let endpoints = catalog.platforms.iter().flat_map(|platform| &platform.targets);
        let others = catalog.controls.iter().map(|control| &control.target);
        let canaries = catalog.canaries.iter().map(|canary| &canary.target);
        let mut seen = BTreeSet::new();
        for target in endpoints.chain(others).chain(canaries) {
            assert!(seen.insert(target.id.clone()), "{} is there twice", target.id);
            assert_eq!(target.url.scheme(), "https");
            for id in &target.controls {
                let control = catalog.controls.iter().find(|control| control.target.id == *id);
                assert!(control.is_some(), "{} names {id}, which is not there", target.id);
            }
        }
    }

    /// Rule 4: a control whose name contains a platform's would be hit by a sloppy rule.
    #[test]
    fn no_control_contains_a_platforms_name() {
        let catalog = builtin();
        for control in &catalog.controls {
            for platform in &catalog.platforms {
                let name = host(&control.target);
                assert!(!name.contains(&platform.id) || platform.id == "ok" || platform.id == "vk", "{name}");
                for domain in &platform.domains {
                    assert!(!name.contains(domain.as_str()), "{name} contains {domain}");
                }
            }
        }
    }

    /// Rules 3 and 5: two networks at least, and not all of them throttled as a whole.
    #[test]
    fn controls_stand_on_more_than_one_network() {
        let catalog = builtin();
        let subjects = catalog.platforms.iter().flat_map(|platform| &platform.targets);
        for target in subjects {
            let network = |id: &TargetId| {
                let control = catalog.controls.iter().find(|control| control.target.id == *id).unwrap();
                assert_eq!(control.country, None, "a domestic control is added by country");
                control.network.as_str()
            };
            let networks: BTreeSet<&str> = target.controls.iter().map(network).collect();
            assert!(networks.len() >= 2, "{}: {networks:?}", target.id);
            let suspect = ["Cloudflare", "Hetzner", "OVH", "DigitalOcean"];
            assert!(networks.iter().any(|network| !suspect.contains(network)), "{}", target.id);
        }
        assert_eq!(catalog.domestic_controls(Some("RU")), [TargetId::new("control/yandex")]);
        assert!(catalog.domestic_controls(None).is_empty());
    }

    #[test]
    fn the_canary_contains_the_token_and_is_not_the_platforms() {
        let catalog = builtin();
        let canary = catalog.canaries.iter().find(|canary| canary.of == "twitter").unwrap();
        assert_eq!(canary.token, "t.co");
        for canary in &catalog.canaries {
            assert!(host(&canary.target).contains(&canary.token));
            assert!(!catalog.platform(&canary.of).unwrap().owns(host(&canary.target)));
        }
    }

    #[test]
    fn a_domain_owns_its_subdomains_and_nothing_else() {
        let twitter = builtin().platforms.swap_remove(0);
        assert!(twitter.owns("t.co") && twitter.owns("abs.twimg.com"));
        assert!(
            !twitter.owns("reddit.com") && !twitter.owns("microsoft.com") && !twitter.owns("nottwimg.com")
        );
    }
}
