//! Paired CSV: one subject and one control exchange a line, goodputs in bits per second. `analyze` reads it.

use std::io::{self, Write};

use crate::model::{Measurement, Network, Role, Vantage};

/// Pairs of one round that are put together; a closer look has a dozen.
const PAIRS_MAX: usize = 256;

/// Puts exchanges together to pairs and writes them. Exchanges of a round come one after another.
#[derive(Debug)]
pub struct PairedWriter<W: Write> {
    out: csv::Writer<W>,
    round: Option<i64>,
    pairs: Vec<(u32, Pair)>,
}

/// One line.
#[derive(Debug, Default)]
struct Pair {
    first: Option<Measurement>,
    subject: Option<f64>,
    control: Option<f64>,
    canary: Option<f64>,
}

impl<W: Write> PairedWriter<W> {
    /// Writes the header.
    pub fn new(out: W) -> io::Result<Self> {
        let mut out = csv::Writer::from_writer(out);
        out.write_record([
            "time",
            "vantage",
            "country",
            "operator",
            "network",
            "target",
            "subject_bps",
            "control_bps",
            "canary_bps",
        ])?;
        Ok(Self { out, round: None, pairs: Vec::new() })
    }

    /// Takes an exchange of the round with this number.
    pub fn add(&mut self, round: i64, measurement: &Measurement) -> io::Result<()> {
        if self.round != Some(round) {
            self.write()?;
            self.round = Some(round);
        }
        let exchange = &measurement.exchange;
        // What came too late on our own machine says nothing of the line, and the rows do not tell.
        if exchange.warmup || exchange.fallback || exchange.is_late() {
            return Ok(());
        }
        let known = self.pairs.iter().position(|(number, _)| *number == exchange.pair);
        let index = known.unwrap_or(self.pairs.len());
        if known.is_none() {
            if self.pairs.len() == PAIRS_MAX {
                return Ok(());
            }
            self.pairs.push((exchange.pair, Pair::default()));
        }
        let pair = &mut self.pairs[index].1;
        let goodput = match exchange.role {
            Role::Subject => &mut pair.subject,
            Role::Control => &mut pair.control,
            Role::Canary => &mut pair.canary,
        };
        *goodput = exchange.goodput().or(*goodput);
        if pair.first.is_none() {
            pair.first = Some(measurement.clone());
        }
        Ok(())
    }

    /// Writes what is left.
    pub fn finish(mut self) -> io::Result<()> {
        self.write()?;
        self.out.flush()
    }

    fn write(&mut self) -> io::Result<()> {
        for (_, pair) in self.pairs.drain(..) {
            let Some(first) = pair.first else { continue };
            if pair.subject.is_none() && pair.control.is_none() && pair.canary.is_none() {
                continue;
            }
            let place = &first.vantage;
            let bits =
                |goodput: Option<f64>| goodput.map(|bytes| format!("{:.0}", bytes * 8.0)).unwrap_or_default();
            self.out.write_record([
                first.exchange.started_at.to_string().as_str(),
                &vantage(place),
                place.country.as_deref().unwrap_or_default(),
                place.operator.as_deref().unwrap_or_default(),
                match place.network {
                    Some(Network::Fixed) => "fixed",
                    Some(Network::Mobile) => "mobile",
                    None => "",
                },
                first.subject.as_str(),
                &bits(pair.subject),
                &bits(pair.control),
                &bits(pair.canary),
            ])?;
        }
        Ok(())
    }
}

/// A vantage in one word: its autonomous system, else its country, else that it is here.
fn vantage(vantage: &Vantage) -> String {
    vantage
        .asn
        .map(|asn| format!("AS{asn}"))
        .or_else(|| vantage.country.clone())
        .unwrap_or_else(|| "here".to_owned())
}
