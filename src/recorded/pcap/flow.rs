//! One TCP connection of a capture, followed in both directions; the one that carries more is reported.
//!
//! The curve is what the client could read. In a capture taken near the sender that is what was acknowledged, when the
//! acknowledgement came; near the receiver it is what arrived in order. Both count from the request as it passed the
//! capture, so that a constant delay on the way cancels. Where only one direction was captured there is one curve for the
//! whole connection: of the data as it passed, or of what the other side's acknowledgements say that it has got.

use std::{collections::BTreeMap, time::Duration};

use crate::{model::CurvePoint, recorded::RecordedCurve};

use super::{
    packet::{Pair, Segment},
    slots::Slots,
};

/// Runs of data beyond a hole that are remembered; a window of 1 MB has fewer.
const RUNS_MAX: usize = 2_048;

/// Memory of one run in its tree, half of whose nodes may be empty, and of a place in a hash table that has just grown.
const RUN: usize = 2 * size_of::<(u64, u64)>() + 8;
const TABLE: usize = 2;

/// Data acknowledged as fast as this was captured near its receiver, when there is no handshake to tell.
const NEAR: Duration = Duration::from_millis(3);

pub(super) struct Flow {
    pub(super) pair: Pair,
    pub(super) first: Duration,
    pub(super) last: Duration,
    handshake: Handshake,
    /// Data of the pair's forward direction, and of the other.
    ways: [Way; 2],
    /// Whether the sender of each way was seen at all.
    seen: [bool; 2],
    /// Whether either side has said so.
    pub(super) ended: bool,
    /// The name shown to the network.
    name: Option<String>,
}

/// When the three packets of the handshake passed.
#[derive(Default)]
struct Handshake {
    /// The SYN: whether it went forward, its sequence number, its time.
    syn: Option<(bool, u32, Duration)>,
    accepted: Option<Duration>,
    completed: Option<Duration>,
}

/// Data in one direction. Positions count from the first byte of the stream.
#[derive(Default)]
struct Way {
    /// Sequence number of position 0.
    origin: Option<u32>,
    /// End of what was sent, as far as seen.
    highest: u64,
    /// End of what passed in order.
    in_order: u64,
    /// Runs beyond `in_order`: start to end.
    runs: BTreeMap<u64, u64>,
    acknowledged: u64,
    /// It is known from acknowledgements alone, which count from the first of them.
    is_unseen: bool,
    /// A sent byte's end and time, until it is acknowledged.
    timed: Option<(u64, Duration)>,
    fastest: Option<Duration>,
    request: Option<Request>,
    requests: u64,
}

/// A request and what came of it.
struct Request {
    start: Duration,
    arrived: Slots,
    acknowledged: Slots,
    segments: u64,
    losses: u64,
}

impl Flow {
    pub(super) fn new(pair: Pair, at: Duration) -> Self {
        let ways = [Way::default(), Way::default()];
        let handshake = Handshake::default();
        Self { pair, first: at, last: at, handshake, ways, seen: [false; 2], ended: false, name: None }
    }

    /// Whether a segment opens a further connection between the same ports.
    pub(super) fn is_over_by(&self, forward: bool, segment: &Segment) -> bool {
        let again = self.handshake.syn
            == Some((forward, segment.sequence, self.handshake.syn.map_or(Duration::ZERO, |syn| syn.2)));
        segment.syn
            && segment.acknowledged.is_none()
            && !again
            && (self.ended || self.ways.iter().any(|way| way.highest > 0))
    }

    pub(super) fn add(
        &mut self,
        at: Duration,
        forward: bool,
        segment: &Segment,
        report: &mut impl FnMut(RecordedCurve),
    ) {
        // A capture may step back a little in time; durations must not.
        self.last = self.last.max(at);
        let at = self.last;
        self.handshake.see(at, forward, segment);
        self.ended |= segment.fin || segment.rst;
        if self.name.is_none() {
            self.name.clone_from(&segment.name);
        }
        let (this, other) = (usize::from(!forward), usize::from(forward));
        self.seen[this] = true;
        if let Some(number) = segment.acknowledged {
            self.ways[other].acknowledge(at, number);
        }
        self.ways[this].show_itself(segment);
        if segment.syn {
            self.ways[this].origin = Some(segment.sequence.wrapping_add(1));
        }
        if segment.length == 0 || segment.syn {
            return;
        }
        let asks = self.ways[this].is_new(segment) && self.ways[other].is_drained();
        self.ways[this].send(at, segment);
        if asks {
            self.close(other, None, report);
            self.ways[other].request = Some(Request::new(at));
        }
    }

    /// Reports what is left. `latest` is how far the capture reached.
    pub(super) fn finish(mut self, latest: Duration, report: &mut impl FnMut(RecordedCurve)) {
        for way in 0..2 {
            let silence = (!self.ended).then(|| latest.saturating_sub(self.last_progress(way)));
            self.close(way, silence, report);
        }
    }

    /// Whether it has carried nothing yet.
    pub(super) fn is_empty(&self) -> bool {
        self.ways.iter().all(|way| way.highest == 0)
    }

    /// Memory that it holds, with its place in a hash table, bytes.
    pub(super) fn weight(&self) -> usize {
        let own = size_of::<Self>() + TABLE * size_of::<(Pair, Box<Self>)>();
        own + self.name.as_ref().map_or(0, String::len) + self.ways.iter().map(Way::weight).sum::<usize>()
    }

    /// Thins its curves to so many points at most.
    pub(super) fn thin(&mut self, points_max: usize) {
        for request in self.ways.iter_mut().filter_map(|way| way.request.as_mut()) {
            request.arrived.thin(points_max);
            request.acknowledged.thin(points_max);
        }
    }

    fn last_progress(&self, way: usize) -> Duration {
        let progress = self.ways[way].request.as_ref().and_then(|request| {
            let slots =
                if self.is_told_by_acknowledgements(way) { &request.acknowledged } else { &request.arrived };
            slots.points.last().map(|point| request.start + point.at)
        });
        progress.unwrap_or(self.last)
    }

    /// Ends the current request of a way, and reports it where that way carries the connection's data.
    fn close(&mut self, way: usize, silence: Option<Duration>, report: &mut impl FnMut(RecordedCurve)) {
        let acknowledged = self.is_told_by_acknowledgements(way);
        let carries = self.ways[way].highest >= self.ways[1 - way].highest;
        let Some(request) = self.ways[way].request.take() else { return };
        let Slots { slot: resolution, points, .. } =
            if acknowledged { request.acknowledged } else { request.arrived };
        if points.is_empty() {
            return;
        }
        let number = self.ways[way].requests;
        self.ways[way].requests += 1;
        if !carries {
            return;
        }
        let (client, server) = self.client_and_server();
        report(RecordedCurve {
            id: format!("{client}-{server}#{number}"),
            name: self.name.clone(),
            points,
            resolution,
            rtt: self.handshake.rtt(),
            silence: silence.filter(|_| self.ways[way].is_missing_data(acknowledged)),
            segments: (request.segments > 0).then_some(request.segments),
            losses: (request.segments > 0).then_some(request.losses),
        });
    }

    /// Whether the acknowledgements show what the receiver got, rather than the data itself.
    fn is_told_by_acknowledgements(&self, way: usize) -> bool {
        self.ways[way].is_unseen || (self.seen[1 - way] && self.is_near_sender(way))
    }

    fn is_near_sender(&self, way: usize) -> bool {
        self.handshake.is_near_forward().map_or_else(
            || self.ways[way].fastest.is_none_or(|delay| delay > NEAR),
            |forward| forward == (way == 0),
        )
    }

    fn client_and_server(&self) -> (std::net::SocketAddr, std::net::SocketAddr) {
        let Pair { source, destination } = self.pair;
        let forward = self.handshake.syn.map_or(source.port() >= destination.port(), |(forward, ..)| forward);
        if forward { (source, destination) } else { (destination, source) }
    }
}

impl Handshake {
    fn see(&mut self, at: Duration, forward: bool, segment: &Segment) {
        match (segment.syn, segment.acknowledged) {
            (true, None) => {
                // The last of several counts: the answer belongs to it or to a delayed earlier one, which is rarer.
                if self.accepted.is_none() {
                    self.syn = Some((forward, segment.sequence, at));
                }
            }
            (true, Some(_)) => {
                if self.completed.is_none() {
                    self.accepted = Some(at);
                    if self.syn.is_none() {
                        // Half a handshake still names the client.
                        self.syn = Some((!forward, 0, at));
                    }
                }
            }
            (false, Some(_)) => {
                if self.completed.is_none()
                    && self.accepted.is_some()
                    && self.syn.is_some_and(|syn| syn.0 == forward)
                {
                    self.completed = Some(at);
                }
            }
            (false, None) => {}
        }
    }

    /// Round trips from the capture to the accepting and to the opening side.
    fn halves(&self) -> Option<(Duration, Duration)> {
        let (_, _, syn) = self.syn?;
        let accepted = self.accepted?;
        Some((accepted.saturating_sub(syn), self.completed?.saturating_sub(accepted)))
    }

    fn rtt(&self) -> Option<Duration> {
        self.halves().map(|(far, near)| far + near).filter(|rtt| !rtt.is_zero())
    }

    /// Whether the capture was taken nearer to the source of the forward direction.
    fn is_near_forward(&self) -> Option<bool> {
        let (accepting, opening) = self.halves()?;
        let opened_forward = self.syn?.0;
        Some((opening < accepting) == opened_forward)
    }
}

impl Way {
    fn weight(&self) -> usize {
        let points = self
            .request
            .as_ref()
            .map_or(0, |request| request.arrived.points.capacity() + request.acknowledged.points.capacity());
        points * size_of::<CurvePoint>() + self.runs.len() * RUN
    }

    /// A sequence number as a position near `reference`; `None` before the origin or absurdly far away.
    fn position(&mut self, number: u32, reference: u64) -> Option<u64> {
        let origin = *self.origin.get_or_insert(number);
        let expected = origin.wrapping_add(reference as u32);
        let distance = number.wrapping_sub(expected).cast_signed();
        reference.checked_add_signed(distance.into())
    }

    fn is_new(&mut self, segment: &Segment) -> bool {
        let reference = self.highest;
        let start = self.position(segment.sequence, reference);
        start.is_some_and(|start| start + u64::from(segment.length) > self.highest)
    }

    /// Whether what was asked for has been answered and has arrived, or nothing was asked for yet.
    fn is_drained(&self) -> bool {
        self.request.as_ref().is_none_or(|request| request.segments > 0 && self.acknowledged >= self.highest)
    }

    /// Whether bytes are known to exist that did not arrive.
    fn is_missing_data(&self, acknowledged: bool) -> bool {
        self.highest > if acknowledged { self.acknowledged } else { self.in_order }
    }

    fn send(&mut self, at: Duration, segment: &Segment) {
        let reference = self.highest;
        let Some(start) = self.position(segment.sequence, reference) else { return };
        let end = start + u64::from(segment.length);
        let again = start < self.highest;
        let request = self.request.get_or_insert_with(|| Request::new(at));
        request.segments += 1;
        request.losses += u64::from(again);
        if again {
            // Which copy an acknowledgement answers is not known.
            self.timed = None;
        } else if self.timed.is_none() {
            self.timed = Some((end, at));
        }
        self.highest = self.highest.max(end);
        if start > self.in_order {
            if self.runs.len() < RUNS_MAX {
                let run = self.runs.entry(start).or_insert(end);
                *run = (*run).max(end);
            }
            return;
        }
        let before = self.in_order;
        self.in_order = before.max(end);
        while let Some(run) = self.runs.first_entry().filter(|run| *run.key() <= self.in_order) {
            self.in_order = self.in_order.max(run.remove());
        }
        if self.in_order > before {
            request.arrived.push(at.saturating_sub(request.start), before, self.in_order);
        }
    }

    /// Once its data is seen, it counts from that.
    fn show_itself(&mut self, segment: &Segment) {
        if self.is_unseen && (segment.length > 0 || segment.syn) {
            let request = self.request.take().map(|request| Request::new(request.start));
            *self = Self { request, requests: self.requests, ..Self::default() };
        }
    }

    fn acknowledge(&mut self, at: Duration, number: u32) {
        self.is_unseen |= self.origin.is_none();
        let reference = self.acknowledged;
        let Some(position) = self.position(number, reference) else { return };
        if self.is_unseen && position > self.acknowledged + 1 {
            self.highest = self.highest.max(position);
            self.request.get_or_insert_with(|| Request::new(at));
        }
        // Neither the FIN nor anything that was not seen is data.
        let position = position.min(self.highest);
        if let Some((end, sent)) = self.timed.filter(|(end, _)| position >= *end) {
            let _ = end;
            let delay = at.saturating_sub(sent);
            self.fastest = Some(self.fastest.map_or(delay, |fastest| fastest.min(delay)));
            self.timed = None;
        }
        if position <= self.acknowledged {
            return;
        }
        if let Some(request) = &mut self.request {
            request.acknowledged.push(at.saturating_sub(request.start), self.acknowledged, position);
        }
        self.acknowledged = position;
    }
}

impl Request {
    fn new(start: Duration) -> Self {
        Self { start, arrived: Slots::default(), acknowledged: Slots::default(), segments: 0, losses: 0 }
    }
}
