//! What the kernel knows of a TCP connection (`TCP_INFO`). Absence is a value: old kernels know less.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::seconds;

/// The kernel's counters at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpInfo {
    /// Smoothed round-trip time; right after `connect` it is the handshake's, truer than ours on a busy machine.
    #[serde(rename = "rtt_s", with = "seconds::option")]
    pub rtt: Option<Duration>,
    /// Its mean deviation.
    #[serde(rename = "rtt_variation_s", with = "seconds::option")]
    pub rtt_variation: Option<Duration>,
    /// The smallest round-trip time seen.
    #[serde(rename = "min_rtt_s", with = "seconds::option")]
    pub min_rtt: Option<Duration>,
    /// The round-trip time as the receiver sees it: a full window's worth of data.
    #[serde(rename = "receiver_rtt_s", with = "seconds::option")]
    pub receiver_rtt: Option<Duration>,
    /// Segments that came out of order: the mark of loss towards us.
    pub received_out_of_order: Option<u32>,
    /// Segments that we sent again.
    pub retransmits: Option<u32>,
    /// Bytes received in order.
    pub bytes_received: Option<u64>,
    /// Data segments received.
    pub segments_received: Option<u32>,
    /// The kernel's estimate of the rate at which we deliver, in bytes per second.
    pub delivery_rate_bytes_per_second: Option<u64>,
    /// Largest segment that we receive.
    pub receive_mss_bytes: Option<u32>,
    /// Largest segment that we send.
    pub send_mss_bytes: Option<u32>,
    /// Receive window's autotuned space.
    pub receive_space_bytes: Option<u32>,
}

/// The counters at connect, in mid-transfer and at the end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpStats {
    /// When the connection stood.
    pub connect: Option<TcpInfo>,
    /// At the sample in mid-transfer whose `receiver_rtt` (else `rtt`) was highest.
    pub during: Option<TcpInfo>,
    /// When we were done with it.
    pub end: Option<TcpInfo>,
}

impl TcpStats {
    /// What was last known of it after the connection stood.
    pub fn after_connect(&self) -> Option<TcpInfo> {
        self.end.or(self.during)
    }
}
