//! The loop that moves real packets through the lanes: takes them from the devices, lets time pass, gives them back.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use super::lateness::{Lateness, LatenessReport};
use super::line::{Delivery, Lane, LaneCounters};
use super::network::{Port, client_number};
use super::pcap::Pcap;
use super::sys;
use crate::clock::{self, Instant};
use crate::model::profile::Direction;
use crate::wire::packet::Packet;

/// Packets taken from one side before time is looked at again.
const BATCH: usize = 32;

/// A wait that was longer than a system call takes was a real one: nothing had come until its end.
const WAITED: Duration = Duration::from_micros(30);

/// What the loop works on.
#[derive(Debug)]
pub(super) struct Runner {
    pub(super) lanes: Vec<Lane>,
    pub(super) client: Port,
    pub(super) server: Port,
    pub(super) client_pcap: Option<Pcap>,
    pub(super) server_pcap: Option<Pcap>,
    pub(super) start: Instant,
    /// Readable (at its end) when it is time to stop.
    pub(super) stop: OwnedFd,
}

/// What the laboratory did.
#[derive(Debug, Clone, serde::Serialize)]
pub struct LabReport {
    /// How late it was itself.
    pub lateness: LatenessReport,
    /// What each lane did, by the client's number.
    pub lanes: Vec<LaneCounters>,
}

/// The loop's own state beside the lanes.
struct Moving {
    deadlines: BTreeSet<(Duration, usize)>,
    due: Vec<Option<Duration>>,
    deliveries: Vec<Delivery>,
    lateness: Lateness,
    /// By direction: when there was last nothing to take. A packet taken later came after that.
    empty_at: [Duration; 2],
}

impl Runner {
    /// Runs until told to stop.
    pub(super) fn run(mut self) -> io::Result<LabReport> {
        sys::sharpen_timers();
        sys::go_first();
        let mut moving = Moving {
            deadlines: BTreeSet::new(),
            due: vec![None; self.lanes.len()],
            deliveries: Vec::new(),
            lateness: Lateness::new(),
            empty_at: [Duration::ZERO; 2],
        };
        loop {
            let now = self.now();
            let next = moving.deadlines.first().map(|(at, _)| *at);
            let timeout = next.map(|at| at.saturating_sub(now));
            let descriptors = [self.client.as_fd(), self.server.as_fd(), self.stop.as_fd()];
            let [from_client, from_server, stop] = sys::wait_readable(descriptors, timeout)?;
            if stop {
                break;
            }
            let woken = self.now();
            // After a wait what there is has just come; without one, only a side with nothing is known to be empty.
            let waited = woken.saturating_sub(now) > WAITED;
            for (direction, readable) in [(Direction::Up, from_client), (Direction::Down, from_server)] {
                if waited || !readable {
                    moving.empty_at[direction.index()] = woken;
                }
            }
            self.release(&mut moving);
            if from_client {
                self.take(Direction::Up, &mut moving)?;
            }
            if from_server {
                self.take(Direction::Down, &mut moving)?;
            }
        }
        for pcap in [&mut self.client_pcap, &mut self.server_pcap].into_iter().flatten() {
            pcap.flush()?;
        }
        Ok(LabReport {
            lateness: moving.lateness.report(),
            lanes: self.lanes.iter().map(Lane::counters).collect(),
        })
    }

    fn now(&self) -> Duration {
        clock::now().saturating_duration_since(self.start)
    }

    /// Lets every lane whose time has come go on.
    fn release(&mut self, moving: &mut Moving) {
        let now = self.now();
        while let Some(&(at, lane)) = moving.deadlines.first()
            && at <= now
        {
            self.lanes[lane].tick(now, &mut moving.deliveries);
            self.reschedule(lane, moving);
        }
        self.deliver(moving);
    }

    fn take(&mut self, direction: Direction, moving: &mut Moving) -> io::Result<()> {
        for _ in 0..BATCH {
            let port = match direction {
                Direction::Up => &mut self.client,
                Direction::Down => &mut self.server,
            };
            let taken = port.take()?;
            let now = self.now();
            let Some(bytes) = taken else {
                moving.empty_at[direction.index()] = now;
                break;
            };
            // At worst it has waited since there was last nothing.
            moving.lateness.record(now.saturating_sub(moving.empty_at[direction.index()]));
            let pcap = match direction {
                Direction::Up => &mut self.client_pcap,
                Direction::Down => &mut self.server_pcap,
            };
            if let Some(pcap) = pcap {
                pcap.write(now, &bytes)?;
            }
            if let Some(lane) = self.lane_of(direction, &bytes) {
                self.lanes[lane].packet(now, direction, bytes, &mut moving.deliveries);
                self.reschedule(lane, moving);
                self.deliver(moving);
            }
        }
        Ok(())
    }

    /// The lane of a packet; multicast and what else a kernel says to nobody has none.
    fn lane_of(&self, direction: Direction, bytes: &[u8]) -> Option<usize> {
        let packet = Packet::parse(bytes)?;
        let client = match direction {
            Direction::Up => packet.source,
            Direction::Down => packet.destination,
        };
        if packet.destination.is_multicast() {
            return None;
        }
        client_number(client).map(usize::from).filter(|&lane| lane < self.lanes.len())
    }

    fn reschedule(&self, lane: usize, moving: &mut Moving) {
        let due = self.lanes[lane].next_deadline();
        if due == moving.due[lane] {
            return;
        }
        if let Some(before) = moving.due[lane] {
            moving.deadlines.remove(&(before, lane));
        }
        if let Some(due) = due {
            moving.deadlines.insert((due, lane));
        }
        moving.due[lane] = due;
    }

    fn deliver(&mut self, moving: &mut Moving) {
        for Delivery { direction, due, bytes } in moving.deliveries.drain(..) {
            let now = clock::now().saturating_duration_since(self.start);
            moving.lateness.record(now.saturating_sub(due));
            let (port, pcap) = match direction {
                Direction::Up => (&mut self.server, &mut self.server_pcap),
                Direction::Down => (&mut self.client, &mut self.client_pcap),
            };
            if !port.give(&bytes) {
                moving.lateness.refuse();
            }
            // A full disk must not stop the network; the capture then ends early, as it would anywhere.
            if let Some(open) = pcap
                && open.write(now, &bytes).is_err()
            {
                *pcap = None;
            }
        }
    }
}
