//! One rule of a middlebox: what it watches for, and what it then does.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{Rate, Size, Span};

/// What to watch for, and what to do about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Names that trigger; empty: every flow does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<NamePattern>,
    /// Names that do not, whatever `names` says (a whitelist). With `names` empty the rule then acts on every flow until
    /// such a name is read in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<NamePattern>,
    /// Where names are read.
    #[serde(default = "tls_only")]
    pub seen_in: Vec<Protocol>,
    /// Only QUIC of version 1 with at least this payload, without looking for a name (the filter of 2022).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quic_payload_min: Option<u32>,
    /// Only hellos that also carry `encrypted_client_hello`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub encrypted_hello: bool,
    /// What is done to the flow.
    pub effect: Effect,
    /// The effect ends this long after the trigger (residual blocking, P10); absent: with the flow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lasts: Option<Span>,
    /// After a trigger every flow between the same two addresses is treated alike, for this long (sticky addresses).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Span>,
    /// In force from this moment after the start (onset).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Span>,
    /// In force until this moment after the start (lift).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Span>,
}

fn tls_only() -> Vec<Protocol> {
    vec![Protocol::Tls]
}

/// Where a name is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Server name of a ClientHello over TCP.
    Tls,
    /// `Host` of an HTTP request.
    Http,
    /// Server name of a ClientHello in a QUIC Initial.
    Quic,
    /// Question of a DNS query over UDP.
    Dns,
}

/// Directions of a flow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Directions {
    /// Client to server and server to client.
    #[default]
    Both,
    /// Client to server.
    Up,
    /// Server to client.
    Down,
}

/// What one bucket or queue is shared by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Per {
    /// Each connection has its own (T6 as the authors describe it).
    #[default]
    Connection,
    /// All triggered connections of a client share one (the other reading of T6).
    Client,
    /// Everybody's triggered packets share one.
    Box,
}

/// What is done to a flow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Packets above a rate are dropped.
    Police(Police),
    /// Packets above a rate wait.
    Shape(Shape),
    /// A share of the packets passes, whatever the rate.
    Pass(Pass),
    /// The flow goes silent for good after so many bytes or packets.
    Freeze(Freeze),
    /// Everything is dropped from so many packets after the trigger on.
    Blackhole(Blackhole),
    /// The server's packets are rewritten to RST/ACK.
    Reset(Cutoff),
    /// Packets after the trigger are held back.
    Delay(Delay),
    /// Many connections to one name within a time: the further ones are held dead for a while.
    LimitConnections(LimitConnections),
    /// DNS queries are answered with a lie before the server can.
    DnsLie(DnsLie),
    /// HTTP requests are answered with a page of the censor.
    BlockPage(BlockPage),
}

/// A token-bucket policer (T2 to T6).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Police {
    /// What passes in the long run, IP bytes.
    pub rate: Rate,
    /// What passes at once: the depth of the bucket, IP bytes.
    pub burst: Size,
    /// The bucket is empty when the flow triggers: nothing passes at once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub starts_empty: bool,
    /// Once a full bucket has run dry it stays dry for this long before it fills again; it is full again only after a
    /// rest (the authors draw 16 KB in 100 ms, then nothing for the remaining 900 ms, T4).
    #[serde(default)]
    pub pause: Span,
    /// Policed directions; each has its own bucket (T3).
    #[serde(default)]
    pub directions: Directions,
    /// What shares a bucket (T6).
    #[serde(default)]
    pub per: Per,
}

/// A shaper: a queue that is emptied at a rate (T7).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// How fast the queue is emptied, IP bytes.
    pub rate: Rate,
    /// How much waits before packets are dropped.
    pub queue: Size,
    /// Shaped directions.
    #[serde(default)]
    pub directions: Directions,
    /// What shares a queue.
    #[serde(default)]
    pub per: Per,
}

/// Random loss (the operators' "protocol degradation").
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pass {
    /// Share of packets that pass, 0 to 1.
    pub share: f64,
    /// Affected directions.
    #[serde(default)]
    pub directions: Directions,
}

/// Silence after a count, drawn per flow between the two numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Freeze {
    /// TCP or UDP payload of either direction, each counted on its own from the flow's beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_bytes: Option<[Size; 2]>,
    /// Packets of both directions together, counted from the flow's beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_packets: Option<[u32; 2]>,
}

/// Symmetric drop from so many packets after the trigger on, drawn per flow; 0: the trigger itself is dropped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blackhole {
    /// Packets of both directions that still pass, the trigger among them.
    pub after_packets: [u32; 2],
}

/// No parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cutoff {}

/// Packets held back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delay {
    /// How long, drawn per flow between the two.
    pub by: [Span; 2],
    /// Which direction.
    #[serde(default)]
    pub directions: Directions,
    /// Only packets within this time after the trigger; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub during: Option<Span>,
    /// Share of them that passes, 0 to 1.
    #[serde(default = "all")]
    pub share: f64,
}

fn all() -> f64 {
    1.0
}

/// A limit on connections to one name with one fingerprint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitConnections {
    /// Connections within the window that pass.
    pub connections: u32,
    /// The window.
    pub within: Span,
    /// How long further handshakes are dead, from the one that was too much; drawn each time.
    pub hold: [Span; 2],
}

/// A forged answer to a DNS query.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DnsLie {
    /// The addresses answered; empty: "no such name".
    #[serde(default)]
    pub addresses: Vec<std::net::IpAddr>,
}

/// A forged answer to an HTTP request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockPage {
    /// HTTP status.
    pub status: u16,
    /// Where it sends the reader, for a redirect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// The page.
    #[serde(default)]
    pub body: String,
}

/// A name with `*` for any run of characters; compared without regard to case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePattern(String);

impl NamePattern {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Self, String> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "*.-_".contains(c);
        if text.is_empty() || text.len() > 255 || !text.chars().all(allowed) {
            return Err(format!(
                "`{text}` is not a name pattern; it takes letters, digits, `.`, `-`, `_`, and `*` for anything"
            ));
        }
        Ok(Self(text.to_ascii_lowercase()))
    }

    /// Whether a name as sent matches, byte for byte: a trailing dot is a character like any other (G12).
    pub fn matches(&self, name: &str) -> bool {
        matches_glob(self.0.as_bytes(), name.as_bytes())
    }
}

/// Glob match in linear time: on a mismatch only the last `*` is worth coming back to.
fn matches_glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while from < name.len() {
        if pattern.get(at) == Some(&b'*') {
            star = Some((at + 1, from));
            at += 1;
        } else if pattern.get(at) == Some(&name[from].to_ascii_lowercase()) {
            at += 1;
            from += 1;
        } else if let Some((after_star, taken)) = star {
            star = Some((after_star, taken + 1));
            at = after_star;
            from = taken + 1;
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

impl Serialize for NamePattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for NamePattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl Rule {
    /// Whether a name read in the given place triggers.
    pub fn names_match(&self, name: &str) -> bool {
        self.names.iter().any(|pattern| pattern.matches(name))
            && !self.except.iter().any(|pattern| pattern.matches(name))
    }

    /// Mistakes that the shape of the data does not rule out.
    pub(super) fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut ordered = |what: &str, in_order: bool| {
            if !in_order {
                wrong.push(format!("{what} names its larger number first; write the smaller one first"));
            }
        };
        let share = |share: f64| (0.0..=1.0).contains(&share);
        let mut shares = None;
        match &self.effect {
            Effect::Freeze(freeze) => {
                ordered("freeze.after_bytes", freeze.after_bytes.is_none_or(|[a, b]| a <= b));
                ordered("freeze.after_packets", freeze.after_packets.is_none_or(|[a, b]| a <= b));
                if freeze.after_bytes.is_none() && freeze.after_packets.is_none() {
                    wrong.push("freeze needs after_bytes or after_packets".to_owned());
                }
            }
            Effect::Blackhole(hole) => {
                ordered("blackhole.after_packets", hole.after_packets[0] <= hole.after_packets[1]);
            }
            Effect::Delay(delay) => {
                ordered("delay.by", delay.by[0] <= delay.by[1]);
                shares = (!share(delay.share)).then_some(("delay.share", delay.share));
            }
            Effect::LimitConnections(limit) => {
                ordered("limit_connections.hold", limit.hold[0] <= limit.hold[1]);
            }
            Effect::Pass(pass) => shares = (!share(pass.share)).then_some(("pass.share", pass.share)),
            Effect::BlockPage(page) if !(200..600).contains(&page.status) => {
                wrong.push(format!(
                    "block_page.status is {}; it is an HTTP status from 200 to 599",
                    page.status
                ));
            }
            Effect::Police(police) if police.burst.0 < 1500 => {
                wrong.push(format!(
                    "police.burst is {}; a bucket under one packet (1500 bytes) passes nothing large",
                    police.burst
                ));
            }
            _ => {}
        }
        if let Some((what, share)) = shares {
            wrong.push(format!("{what} is {share}; it is a share of packets from 0 to 1"));
        }
        if let (Some(from), Some(until)) = (self.from, self.until)
            && until <= from
        {
            wrong.push("`until` is not after `from`; the rule would never be in force".to_owned());
        }
        if self.encrypted_hello && self.seen_in != [Protocol::Tls] {
            wrong.push("encrypted_hello is a matter of seen_in = [\"tls\"] alone".to_owned());
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_match_any_run() {
        let cases = [
            ("*t.co*", "reddit.com", true),
            ("*t.co*", "microsoft.com", true),
            ("*t.co*", "t.co", true),
            ("*t.co*", "example.org", false),
            ("*.twimg.com", "abs.twimg.com", true),
            ("*.twimg.com", "twimg.com", false),
            ("*twitter.com", "throttletwitter.com", true),
            ("*twitter.com", "twitter.com.", false),
            ("t.co", "T.CO", true),
            ("*a*b*a", "xaybza", true),
            ("*a*b*a", "xayza", false),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(NamePattern::parse(pattern).unwrap().matches(name), expected, "{pattern} on {name}");
        }
        assert!(NamePattern::parse("a b").is_err());
    }
}
