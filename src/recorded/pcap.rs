//! Packet captures, pcap or pcapng, from either side, into transfer curves.
//!
//! A capture is streamed: memory depends on the flows alive at one time, which have a budget, not on its size. Each flow
//! yields one curve for each request on it: a request is new payload against the direction of the data, after data.

mod flow;
mod flows;
mod packet;
mod slots;

use std::{io::Read, time::Duration};

use pcap_parser::{Block, PcapBlockOwned, PcapError, create_reader};

use super::{Malformed, RecordedCurve};
use flows::{BUDGET, Flows};
use packet::Link;

/// Read buffer, and the most it grows to for one huge packet block.
const BUFFER: usize = 256 * 1024;
const BUFFER_MAX: usize = 16 * 1024 * 1024;

/// Interfaces of one pcapng section that are remembered.
const INTERFACES_MAX: usize = 4_096;

/// Why a capture cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum PcapFileError {
    /// The very beginning is not that of a capture.
    #[error("is not a pcap or pcapng capture, or is damaged at its very beginning")]
    Header,
    /// The link type of every interface is one we do not know.
    #[error(
        "has link type {0}, which is not supported; capture on Ethernet, raw IP, loopback or Linux cooked"
    )]
    LinkType(i32),
}

/// What a capture held besides curves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CaptureSummary {
    /// Packets read.
    pub packets: u64,
    /// Blocks that could not be read; the line is the packet's number.
    pub malformed: Malformed,
}

/// Reads a capture; `report` is given each curve when its flow ends, or the capture does.
pub fn read(
    input: impl Read + Send,
    mut report: impl FnMut(RecordedCurve),
) -> Result<CaptureSummary, PcapFileError> {
    let mut reader = create_reader(BUFFER, input).map_err(|_| PcapFileError::Header)?;
    let mut summary = CaptureSummary::default();
    let mut flows = Flows::within(BUDGET);
    let mut format = Format::default();
    let mut size = BUFFER;
    loop {
        let step = match reader.next() {
            Ok((offset, block)) => {
                match format.packet(&block) {
                    Ok(None) => {}
                    Ok(Some((at, link, data))) => {
                        summary.packets += 1;
                        if let Some((pair, segment)) = packet::parse(link, data) {
                            flows.add(at, pair, &segment, &mut report);
                        }
                    }
                    Err(reason) => {
                        summary.packets += 1;
                        summary.malformed.add(summary.packets, reason);
                    }
                }
                Step::Consume(offset)
            }
            Err(PcapError::Eof) => Step::End,
            Err(PcapError::Incomplete(_)) => Step::Refill,
            Err(PcapError::BufferTooSmall) if size < BUFFER_MAX => Step::Grow,
            Err(_) => Step::Damaged,
        };
        match step {
            Step::Consume(offset) => reader.consume(offset),
            Step::Refill if !reader.reader_exhausted() && reader.refill().is_ok() => {}
            Step::Grow => {
                size *= 2;
                reader.grow(size);
            }
            Step::End => break,
            Step::Refill | Step::Damaged => {
                let reason = "the capture ends within this packet, or is damaged from here on";
                summary.malformed.add(summary.packets + 1, reason);
                break;
            }
        }
    }
    flows.close(&mut report);
    match format.unsupported {
        Some(link) if summary.packets == 0 || format.supported == 0 => Err(PcapFileError::LinkType(link)),
        _ => Ok(summary),
    }
}

/// A captured packet: time since the epoch, link type, bytes.
type Packet<'a> = (Duration, Link, &'a [u8]);

/// What to do after one attempt to read a block.
enum Step {
    Consume(usize),
    Refill,
    Grow,
    Damaged,
    End,
}

/// What the file's headers say of its packets.
#[derive(Default)]
struct Format {
    interfaces: Vec<Interface>,
    nanoseconds: bool,
    supported: u64,
    unsupported: Option<i32>,
}

#[derive(Clone, Copy)]
struct Interface {
    link: Option<Link>,
    /// Ticks per second.
    resolution: u64,
    offset: i64,
}

impl Format {
    /// The packet in a block, where it is one.
    fn packet<'a>(&mut self, block: &PcapBlockOwned<'a>) -> Result<Option<Packet<'a>>, &'static str> {
        match block {
            PcapBlockOwned::LegacyHeader(header) => {
                self.nanoseconds = header.is_nanosecond_precision();
                self.interface(header.network.0, 1_000_000, 0);
                Ok(None)
            }
            PcapBlockOwned::Legacy(packet) => {
                let unit = if self.nanoseconds { 1 } else { 1_000 };
                let at = Duration::from_secs(packet.ts_sec.into())
                    + Duration::from_nanos(u64::from(packet.ts_usec) * unit);
                let captured = packet.data.len().min(packet.caplen as usize);
                let link = self.interfaces.first().and_then(|interface| interface.link);
                Ok(link.map(|link| (at, link, &packet.data[..captured])))
            }
            PcapBlockOwned::NG(Block::SectionHeader(_)) => {
                self.interfaces.clear();
                Ok(None)
            }
            PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
                let resolution = interface.ts_resolution().filter(|&ticks| ticks > 0).unwrap_or(1_000_000);
                self.interface(interface.linktype.0, resolution, interface.if_tsoffset);
                Ok(None)
            }
            PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
                let Some(interface) = self.interfaces.get(packet.if_id as usize) else {
                    return Err("a packet of an interface that was never described");
                };
                let ticks = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
                let captured = packet.data.len().min(packet.caplen as usize);
                Ok(interface.link.map(|link| (interface.time(ticks), link, &packet.data[..captured])))
            }
            PcapBlockOwned::NG(Block::SimplePacket(_)) => Err("a packet without a time"),
            PcapBlockOwned::NG(_) => Ok(None),
        }
    }

    fn interface(&mut self, link_type: i32, resolution: u64, offset: i64) {
        let link = Link::of(link_type);
        match link {
            Some(_) => self.supported += 1,
            None => self.unsupported = Some(link_type),
        }
        if self.interfaces.len() < INTERFACES_MAX {
            self.interfaces.push(Interface { link, resolution, offset });
        }
    }
}

impl Interface {
    fn time(self, ticks: u64) -> Duration {
        let seconds = ticks / self.resolution;
        let rest = u128::from(ticks % self.resolution) * 1_000_000_000 / u128::from(self.resolution);
        Duration::from_secs(seconds.saturating_add_signed(self.offset)) + Duration::from_nanos(rest as u64)
    }
}
