//! `TCP_INFO`: what the kernel knows of a connection.
//!
//! The kernel returns as much of its structure as it has; a field beyond the returned length is not known. Offsets are
//! those of `struct tcp_info` in `include/uapi/linux/tcp.h`, which only ever grows at its end.

#![allow(unsafe_code, reason = "the one system call of this room that has no safe wrapper")]

use std::{os::fd::AsFd, time::Duration};

use crate::model::TcpInfo;

/// The counters now; `None` where the system does not tell.
#[cfg(target_os = "linux")]
pub(super) fn read(socket: &impl AsFd) -> Option<TcpInfo> {
    use std::os::fd::AsRawFd;

    let mut buffer = [0_u8; 320];
    let mut length = libc::socklen_t::try_from(buffer.len()).ok()?;
    // SAFETY: the descriptor is borrowed for the call, and the kernel writes at most `length` bytes into `buffer`.
    let status = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            buffer.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if status != 0 {
        return None;
    }
    Some(parse(buffer.get(..length as usize)?))
}

/// The counters now; `None` where the system does not tell.
#[cfg(not(target_os = "linux"))]
pub(super) fn read(_socket: &impl AsFd) -> Option<TcpInfo> {
    None
}

#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
fn parse(info: &[u8]) -> TcpInfo {
    let u32_at = |at: usize| info.get(at..at + 4)?.first_chunk::<4>().map(|bytes| u32::from_ne_bytes(*bytes));
    let u64_at = |at: usize| info.get(at..at + 8)?.first_chunk::<8>().map(|bytes| u64::from_ne_bytes(*bytes));
    // Zero (and for the minimum, all ones) is how the kernel says "no sample yet".
    let time =
        |at| u32_at(at).filter(|&n| n != 0 && n != u32::MAX).map(|n| Duration::from_micros(u64::from(n)));
    TcpInfo {
        rtt: time(68),
        rtt_variation: time(72),
        min_rtt: time(148),
        receiver_rtt: time(92),
        received_out_of_order: u32_at(224),
        retransmits: u32_at(100),
        bytes_received: u64_at(128),
        segments_received: u32_at(152),
        delivery_rate_bytes_per_second: u64_at(160).filter(|&rate| rate != 0),
        receive_mss_bytes: u32_at(20).filter(|&size| size != 0),
        send_mss_bytes: u32_at(16).filter(|&size| size != 0),
        receive_space_bytes: u32_at(96).filter(|&size| size != 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_kernel_knows_less() {
        let mut info = vec![0_u8; 104];
        info[68..72].copy_from_slice(&1_500_u32.to_ne_bytes());
        info[100..104].copy_from_slice(&3_u32.to_ne_bytes());
        let parsed = parse(&info);
        assert_eq!(parsed.rtt, Some(Duration::from_micros(1_500)));
        assert_eq!(parsed.retransmits, Some(3));
        assert_eq!(parsed.received_out_of_order, None);
        assert_eq!(parsed.bytes_received, None);
        assert_eq!(parse(&[]), TcpInfo::default());
    }
}
