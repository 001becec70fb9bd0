//! The catalogue's file format.

use serde::Deserialize;
use url::Url;

use super::{BULK_BYTES, CHEAP_BYTES, Canary, Catalog, Control, Platform};
use crate::model::{EndpointKind, Role, Target, TargetId};

/// A catalogue that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct CatalogError {
    /// What is wrong, in the words of the TOML reader.
    pub message: String,
    /// The byte at which it is wrong, where known.
    pub at: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    default_controls: Vec<TargetId>,
    #[serde(default)]
    control: Vec<FileControl>,
    #[serde(default)]
    canary: Vec<FileCanary>,
    #[serde(default)]
    platform: Vec<FilePlatform>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileControl {
    id: TargetId,
    url: Url,
    network: String,
    country: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileCanary {
    id: TargetId,
    of: String,
    url: Url,
    token: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FilePlatform {
    id: String,
    name: String,
    domains: Vec<String>,
    endpoint: Vec<FileEndpoint>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileEndpoint {
    id: String,
    kind: EndpointKind,
    url: Url,
    #[serde(default)]
    bulk: bool,
    #[serde(default)]
    own_authority: bool,
    controls: Option<Vec<TargetId>>,
}

impl Catalog {
    /// Reads a catalogue.
    pub fn parse(text: &str) -> Result<Self, CatalogError> {
        let file: File = toml::from_str(text).map_err(|error| CatalogError {
            message: error.message().to_owned(),
            at: error.span().map(|span| span.start),
        })?;
        let defaults = file.default_controls;
        let target = |id, url, role, kind, bytes, controls| Target {
            id,
            url,
            role,
            kind,
            controls,
            bytes,
            connect_to: None,
            check_certificate: true,
        };
        let control = |control: FileControl| Control {
            target: target(
                control.id,
                control.url,
                Role::Control,
                EndpointKind::Media,
                BULK_BYTES,
                Vec::new(),
            ),
            network: control.network,
            country: control.country,
        };
        let canary = |canary: FileCanary| Canary {
            target: target(
                canary.id,
                canary.url,
                Role::Canary,
                EndpointKind::Page,
                BULK_BYTES,
                defaults.clone(),
            ),
            of: canary.of,
            token: canary.token,
        };
        let endpoint = |platform: &str, endpoint: FileEndpoint| Target {
            check_certificate: !endpoint.own_authority,
            ..target(
                TargetId::new(format!("{platform}/{}", endpoint.id)),
                endpoint.url,
                Role::Subject,
                endpoint.kind,
                if endpoint.bulk { BULK_BYTES } else { CHEAP_BYTES },
                endpoint.controls.unwrap_or_else(|| defaults.clone()),
            )
        };
        let platform = |platform: FilePlatform| Platform {
            targets: platform.endpoint.into_iter().map(|one| endpoint(&platform.id, one)).collect(),
            id: platform.id,
            name: platform.name,
            domains: platform.domains,
        };
        Ok(Self {
            platforms: file.platform.into_iter().map(platform).collect(),
            controls: file.control.into_iter().map(control).collect(),
            canaries: file.canary.into_iter().map(canary).collect(),
            default_controls: defaults,
        })
    }
}
