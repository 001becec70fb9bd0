//! Captures of what passes one side of the middlebox, in the classic format that every tool reads
//! (draft-ietf-opsawg-pcap): nanosecond times, raw IP packets.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

/// An open capture file.
#[derive(Debug)]
pub(super) struct Pcap {
    file: BufWriter<File>,
    /// Time since 1970 at the laboratory's zero.
    epoch: Duration,
}

impl Pcap {
    pub(super) fn create(path: &Path, epoch: Duration) -> io::Result<Self> {
        const MAGIC_NANOSECONDS: u32 = 0xa1b2_3c4d;
        const SNAPLEN: u32 = 65_535;
        const LINKTYPE_RAW: u32 = 101;
        let mut file = BufWriter::new(File::create(path)?);
        file.write_all(&MAGIC_NANOSECONDS.to_le_bytes())?;
        file.write_all(&[2, 0, 4, 0])?;
        file.write_all(&[0; 8])?;
        file.write_all(&SNAPLEN.to_le_bytes())?;
        file.write_all(&LINKTYPE_RAW.to_le_bytes())?;
        file.flush()?;
        Ok(Self { file, epoch })
    }

    /// Writes a packet that passed at `at`.
    pub(super) fn write(&mut self, at: Duration, packet: &[u8]) -> io::Result<()> {
        let at = self.epoch + at;
        let length = (packet.len() as u32).to_le_bytes();
        self.file.write_all(&(at.as_secs() as u32).to_le_bytes())?;
        self.file.write_all(&at.subsec_nanos().to_le_bytes())?;
        self.file.write_all(&length)?;
        self.file.write_all(&length)?;
        self.file.write_all(packet)
    }

    /// Writes out what is buffered.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
