//! `throttlescope measure`: platforms, endpoints or URLs, once.

use std::{fmt::Write as _, process::ExitCode, time::Duration};

use anyhow::{Context as _, bail, ensure};
use url::Url;

use crate::{
    config::{self, Config, Overrides},
    engine::{Allowance, Subject, subjects},
    methods::Leg,
    model::{Role, Target, TargetId},
};

use super::{
    measuring,
    options::{MeasuringOptions, quoted},
    safety,
};

/// What a run without arguments may cost: a look at everything that nobody regrets on a metered line.
const OVERVIEW: Allowance = Allowance { pairs: 12, time: Some(Duration::from_mins(1)), bytes: 20_000_000 };

/// Measures platforms, endpoints or URLs once, and judges.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to measure: a platform (twitter), an endpoint (twitter/images), or a URL [default: one media endpoint of every
    /// platform, at most 60 s and 20 MB]
    #[arg(value_name = "PLATFORM|PLATFORM/ENDPOINT|URL")]
    what: Vec<String>,
    /// Compare with this URL instead of the catalogue's controls; may be repeated
    #[arg(long, value_name = "URL", help_heading = "Test")]
    control: Vec<String>,
    /// Ask this resolver over HTTPS as well where the system's fails or seems to lie
    #[arg(long, value_name = "URL", value_parser = https_url, help_heading = "Network")]
    doh: Option<Url>,
    #[command(flatten)]
    options: MeasuringOptions,
}

impl Args {
    /// Measures and prints one report.
    pub fn run(mut self) -> anyhow::Result<ExitCode> {
        let config = config::load(self.options.config.as_deref(), &Overrides::from_environment())?;
        let chosen = Chosen { config: &config, args: &self };
        let (subjects, contacts_catalog) = chosen.subjects()?;
        if contacts_catalog {
            safety::acknowledge_catalog(&config, self.options.yes)?;
        }
        let targets: Vec<Target> =
            config.targets.iter().map(|configured| configured.target.clone()).collect();
        self.options.connect_to.extend(subjects::connect_to(&targets));
        self.options.doh = self.doh.clone().or_else(|| config.doh.clone());
        self.options.cacert = self.options.cacert.take().or_else(|| config.ca_file.clone());
        // Each subject by its name on its control's server, and against its control.
        let named = measuring::allowance(2 * subjects.len());
        let allowance = if self.what.is_empty() { OVERVIEW } else { named };
        measuring::run(&self.options, subjects, config.vantage, allowance)
    }
}

/// What the arguments name, looked up in the configuration and the catalogue.
struct Chosen<'a> {
    config: &'a Config,
    args: &'a Args,
}

impl Chosen<'_> {
    /// The subjects, and whether anything of the built-in catalogue will be contacted.
    fn subjects(&self) -> anyhow::Result<(Vec<Subject>, bool)> {
        let mut subjects = Vec::new();
        let mut contacts_catalog = false;
        if self.args.what.is_empty() {
            ensure!(
                !self.config.platforms.is_empty(),
                "the configuration selects no platform; name what to measure"
            );
            let platforms = self.config.platforms.iter().filter_map(|id| self.config.catalog.platform(id));
            subjects
                .extend(platforms.filter_map(|platform| platform.first_choice()).map(|t| self.of_target(t)));
            contacts_catalog = true;
        }
        for what in &self.args.what {
            if what.contains("://") {
                let (subject, from_catalog) = self.of_url(what)?;
                subjects.push(subject);
                contacts_catalog |= from_catalog;
            } else {
                let (targets, from_catalog) = self.targets(what)?;
                subjects.extend(targets.into_iter().map(|target| self.of_target(target)));
                contacts_catalog |= from_catalog;
            }
        }
        Ok((subjects, contacts_catalog))
    }

    /// The targets of a platform or of one id; the configuration's own come before the catalogue's.
    fn targets(&self, what: &str) -> anyhow::Result<(Vec<&Target>, bool)> {
        let configured = self.config.targets.iter().filter(|configured| {
            let id = &configured.target.id;
            !configured.built_in && (id.as_str() == what || id.platform() == Some(what))
        });
        let configured: Vec<&Target> = configured.map(|configured| &configured.target).collect();
        if !configured.is_empty() {
            return Ok((configured, false));
        }
        if let Some(platform) = self.config.catalog.platform(what) {
            return Ok((platform.targets.iter().collect(), true));
        }
        if let Some(target) = self.config.catalog.target(what) {
            return Ok((vec![target], true));
        }
        let known: Vec<&str> =
            self.config.catalog.platforms.iter().map(|platform| platform.id.as_str()).collect();
        bail!("`{what}` is no platform, endpoint or URL; platforms are {}", known.join(", "))
    }

    fn of_target(&self, target: &Target) -> Subject {
        let find = |id: &TargetId| {
            let configured = self.config.targets.iter().map(|configured| &configured.target);
            configured
                .into_iter()
                .find(|other| other.id == *id)
                .or_else(|| self.config.catalog.target(id.as_str()))
        };
        let mut subject = subjects::subject(target, find);
        if !self.args.control.is_empty() {
            // Parsed before, by the options of the command.
            subject.controls = self.control_legs().unwrap_or_default();
        }
        subject.repeat.push_str(&self.repeat());
        subject
    }

    fn of_url(&self, text: &str) -> anyhow::Result<(Subject, bool)> {
        let url = http_url(text)?;
        let mut controls = self.control_legs()?;
        let from_catalog = controls.is_empty() && !self.config.platforms.is_empty();
        if from_catalog {
            let catalog = &self.config.catalog;
            let neutral = catalog.default_controls.iter().filter_map(|id| catalog.target(id.as_str()));
            controls.extend(neutral.map(subjects::control_leg));
        }
        let leg = Leg::new(TargetId::new(text), Role::Subject, url);
        let repeat = format!("throttlescope measure {}{}", quoted(text), self.repeat());
        Ok((Subject { leg, controls, same_server: false, repeat }, from_catalog))
    }

    fn control_legs(&self) -> anyhow::Result<Vec<Leg>> {
        let leg = |text: &String| Ok(Leg::new(TargetId::new(text), Role::Control, http_url(text)?));
        self.args.control.iter().map(leg).collect()
    }

    fn repeat(&self) -> String {
        let mut text = String::new();
        for control in &self.args.control {
            let _ = write!(text, " --control {}", quoted(control));
        }
        if let Some(doh) = &self.args.doh {
            let _ = write!(text, " --doh {}", quoted(doh.as_str()));
        }
        text + &self.args.options.repeat()
    }
}

fn https_url(text: &str) -> anyhow::Result<Url> {
    let url = http_url(text)?;
    ensure!(url.scheme() == "https", "`{text}` is not asked over HTTPS");
    Ok(url)
}

fn http_url(text: &str) -> anyhow::Result<Url> {
    let url = Url::parse(text).with_context(|| format!("`{text}` is not a URL"))?;
    ensure!(
        matches!(url.scheme(), "http" | "https") && url.host().is_some(),
        "`{text}`: only http:// and https:// URLs are measured"
    );
    ensure!(url.username().is_empty() && url.password().is_none(), "`{text}`: credentials are never sent");
    Ok(url)
}
