//! `throttlescope check-config`.

use std::{fmt::Write as _, path::PathBuf, process::ExitCode, time::Duration};

use super::out;
use crate::{
    config::{self, Config, Notify, Overrides},
    model::Network,
    schedule::Schedule,
};

/// Rounds from onset to incident that are expected at the defaults: one that raises suspicion (handshakes do not show a
/// rate limit, so a bulk one), and the closer look that confirms it.
const CLOSER_LOOK: Duration = Duration::from_secs(90);

/// Checks the configuration.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Configuration file
    #[arg(long, visible_alias = "config.file", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print what is in effect: every key with its value and meaning, intervals, bytes, detection delays
    #[arg(long)]
    print: bool,
}

impl Args {
    /// Runs the command.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let config = config::load(self.config.as_deref(), &Overrides::from_environment())?;
        let text = if self.print { effective(&config) } else { summary(&config) };
        out::write(text.as_bytes())
    }
}

fn summary(config: &Config) -> String {
    let source =
        config.source.as_ref().map_or("built-in defaults".to_owned(), |path| path.display().to_string());
    let rounds = config.scheduled().len();
    format!("{source}: ok, {rounds} targets are measured on a schedule (--print shows everything)\n")
}

/// The configuration as a file that would give the same, then what follows from it as comments.
fn effective(config: &Config) -> String {
    let mut text = String::new();
    let mut line = |setting: String, meaning: &str| {
        let _ = if meaning.is_empty() {
            writeln!(text, "{setting}")
        } else {
            writeln!(text, "{setting:<44} # {meaning}")
        };
    };
    line("[safety]".to_owned(), "");
    line(
        format!("acknowledged = {}", config.acknowledged),
        "the catalogue may be measured from here without asking",
    );
    line("\n[vantage]".to_owned(), "");
    let vantage = &config.vantage;
    let network = vantage.network.map(|network| match network {
        Network::Fixed => "fixed".to_owned(),
        Network::Mobile => "mobile".to_owned(),
    });
    line(optional("country", vantage.country.as_deref()), "where the probe stands, ISO 3166-1");
    line(
        vantage.asn.map_or("# asn = (not set)".to_owned(), |asn| format!("asn = {asn}")),
        "its operator's autonomous system",
    );
    line(optional("operator", vantage.operator.as_deref()), "its operator's name");
    line(optional("network", network.as_deref()), "\"fixed\" or \"mobile\"");
    line("\n[web]".to_owned(), "");
    line(format!("listen = {}", quoted(&config.web.listen.to_string())), "status page, metrics, API");
    line("\n[store]".to_owned(), "");
    line(format!("path = {}", quoted(&config.store.path.display().to_string())), "the database");
    line(format!("retention = {}", duration(config.store.retention)), "how long measurements are kept");
    line(format!("max_size = {}", bytes(config.store.max_bytes)), "the database grows no larger");
    line("\n[schedule]".to_owned(), "");
    let wishes = &config.schedule;
    line(format!("interval = {}", duration(wishes.interval)), "a wish; budgets may make it longer");
    line(format!("bytes_per_hour = {}", bytes(wishes.bytes_per_hour)), "never exceeded in any hour");
    line(format!("bytes_per_day = {}", bytes(wishes.bytes_per_day)), "never exceeded in any day");
    line("\n[tls]".to_owned(), "");
    let ca_file = config.ca_file.as_ref().map(|path| path.display().to_string());
    line(optional("ca_file", ca_file.as_deref()), "certificates trusted beside the usual ones");
    line("\n[dns]".to_owned(), "");
    let doh = config.doh.as_ref().map(url::Url::as_str);
    line(optional("doh", doh), "independent resolver, asked where the system's fails or lies");
    line("\n[metrics]".to_owned(), "");
    let histograms = config.histograms.map(|mode| format!("{mode:?}").to_lowercase());
    line(
        optional("histograms", histograms.as_deref()),
        "\"target\", \"platform\", \"native\"; else by their number",
    );
    line("\n[catalog]".to_owned(), "");
    let platforms: Vec<String> = config.platforms.iter().map(|id| quoted(id)).collect();
    line("# platforms that are measured; [] for none".to_owned(), "");
    line(format!("platforms = [{}]", platforms.join(", ")), "");
    text.push_str(&own_sections(config));
    text.push_str(&consequences(config));
    text
}

fn own_sections(config: &Config) -> String {
    let mut text = String::new();
    for configured in config.targets.iter().filter(|configured| !configured.built_in) {
        let target = &configured.target;
        let role = format!("{:?}", target.role).to_lowercase();
        let _ = writeln!(text, "\n[[target]]\nid = {}", quoted(target.id.as_str()));
        let _ = writeln!(text, "url = {}\nrole = {}", quoted(target.url.as_str()), quoted(&role));
        let controls: Vec<String> = target.controls.iter().map(|id| quoted(id.as_str())).collect();
        let _ = writeln!(
            text,
            "{:<44} # [] is its own history only",
            format!("controls = [{}]", controls.join(", "))
        );
        if let Some(connect_to) = &target.connect_to {
            let _ = writeln!(
                text,
                "{:<44} # instead of the URL's host",
                format!("connect_to = {}", quoted(connect_to))
            );
        }
        let interval = configured.interval.map_or("# interval = (not set)".to_owned(), |interval| {
            format!("interval = {}", duration(interval))
        });
        let _ = writeln!(text, "{interval:<44} # a wish; a control without one is measured in pairs only");
        let _ = writeln!(
            text,
            "{:<44} # of body an exchange asks for",
            format!("bytes = {}", bytes(target.bytes))
        );
        let insecure = format!("insecure = {}", !target.check_certificate);
        let _ = writeln!(text, "{insecure:<44} # its certificate is not checked");
    }
    for via in &config.vias {
        let list = |names: &[String]| names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
        let _ = writeln!(text, "\n[[via]]\nid = {}\naddress = {}", quoted(&via.id), quoted(&via.address));
        let _ = writeln!(text, "subjects = [{}]\ncontrols = [{}]", list(&via.subjects), list(&via.controls));
        let _ = writeln!(text, "interval = {}\nbytes = {}", duration(via.interval), bytes(via.bytes));
    }
    for notify in &config.notify {
        let (key, url) = match notify {
            Notify::Webhook(url) => ("webhook", url),
            Notify::Alertmanager(url) => ("alertmanager", url),
        };
        let _ = writeln!(text, "\n[[notify]]\n{key} = {}", quoted(url.as_str()));
    }
    text
}

/// Intervals, bytes and delays that follow, worked out from the worst case of every round.
fn consequences(config: &Config) -> String {
    let schedule = Schedule::new(&config.scheduled(), config.budgets(), 0);
    let own = config.measured().map(|(target, _)| target.id.clone());
    let ids = own.chain(config.via_targets().map(|(_, _, id)| id));
    let planned = bytesize::ByteSize(schedule.planned_bytes_per_day()).display().si();
    let mut text = format!(
        "\n# What follows, if every round takes as much as it may (real ones take less, and intervals then shorten):\n\
         # {planned} a day for routine rounds; a fifth of each budget is kept for closer looks.\n#\n\
         # {:<28} {:>12} {:>14} {:>18}\n",
        "target", "every", "bulk every", "detects within"
    );
    for (index, id) in ids.enumerate() {
        let every = schedule.effective_interval(index);
        let bulk = schedule.bulk_every(index).map(|turns| every * u32::try_from(turns).unwrap_or(u32::MAX));
        // A handshake that is slowed down or cut off shows in any round, a rate limit in bulk rounds alone. A platform's
        // delay is that of whichever of its endpoints is next, so this is the most that one endpoint alone needs.
        let delay = bulk.unwrap_or(every) + CLOSER_LOOK.min(every);
        let bulk = bulk.map_or("handshakes".to_owned(), short);
        let _ = writeln!(text, "# {:<28} {:>12} {bulk:>14} {:>18}", id.as_str(), short(every), short(delay));
    }
    text.push_str("#\n# The delay is the mean one for a slowdown that hits every test; a patchy one takes a multiple.\n");
    text
}

fn optional(key: &str, value: Option<&str>) -> String {
    value.map_or_else(|| format!("# {key} = (not set)"), |value| format!("{key} = {}", quoted(value)))
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// In the largest unit that says it exactly.
fn duration(duration: Duration) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let milliseconds = duration.as_millis();
    let exact = units.iter().find(|(size, _)| milliseconds.is_multiple_of(*size));
    quoted(
        &exact.map_or_else(
            || format!("{milliseconds}ms"),
            |(size, unit)| format!("{}{unit}", milliseconds / size),
        ),
    )
}

/// To the minute or second: more digits would pretend.
pub(super) fn short(duration: Duration) -> String {
    let whole = match duration.as_secs() {
        seconds @ 0..600 => seconds,
        seconds => seconds / 60 * 60,
    };
    humantime::format_duration(Duration::from_secs(whole)).to_string()
}

/// In the largest unit that says it exactly.
fn bytes(bytes: u64) -> String {
    let units = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1_000, "KB")];
    let exact = units.iter().find(|(size, _)| bytes.is_multiple_of(*size));
    quoted(&exact.map_or_else(|| format!("{bytes}B"), |(size, unit)| format!("{}{unit}", bytes / size)))
}
