//! What one client address, and all of them together, may ask of the server.
//!
//! Time is an argument. Addresses live only here, in memory, in a table of bounded size that forgets whoever has been
//! quiet longest. A client is one IPv4 address or one IPv6 /64, which is what a household or a machine gets.
//!
//! A server that hangs up after the `ClientHello` looks like a censor. So a client over its limit is still shaken hands
//! with and told 429; only one at twice its limit is dropped, and that before a byte of it is read.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::clock::Instant;

/// Clients remembered; more than there can be connections, so that one without any can always be forgotten.
const CLIENTS_MAX: usize = 8192;

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

/// Limits of the server. The defaults leave a measuring client ample room (a round takes under 2 MB) and keep the
/// worst month of a small rented machine bearable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Open connections of one client.
    pub connections_per_client: u32,
    /// Requests of one client in a minute; a new connection counts as one.
    pub requests_per_minute: u32,
    /// Body bytes sent to and taken from one client in a minute.
    pub bytes_per_minute: u64,
    /// Open connections of all clients.
    pub connections: u32,
    /// Body bytes sent to and taken from all clients in an hour.
    pub bytes_per_hour: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_per_client: 32,
            requests_per_minute: 1200,
            bytes_per_minute: 128 << 20,
            connections: 1000,
            bytes_per_hour: 10 << 30,
        }
    }
}

impl Limits {
    /// For a server that only its own machine reaches: the laboratory and tests. Still bounded in connections.
    pub fn generous() -> Self {
        Self {
            connections_per_client: 4096,
            requests_per_minute: u32::MAX,
            bytes_per_minute: 1 << 50,
            connections: 4096,
            bytes_per_hour: 1 << 50,
        }
    }
}

/// What keeps count of the clients; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    limits: Arc<Limits>,
    table: Arc<Mutex<Table>>,
}

#[derive(Debug)]
struct Table {
    open: u32,
    bytes: Bucket,
    clients: HashMap<IpAddr, Client>,
}

#[derive(Debug)]
struct Client {
    open: u32,
    requests: Bucket,
    bytes: Bucket,
    seen: Instant,
}

/// A token bucket: holds one period's allowance and is refilled evenly over the period.
#[derive(Debug)]
struct Bucket {
    allowance: f64,
    period: Duration,
    tokens: f64,
    refilled: Instant,
}

impl Bucket {
    fn full(allowance: u64, period: Duration, now: Instant) -> Self {
        Self { allowance: allowance as f64, period, tokens: allowance as f64, refilled: now }
    }

    /// Takes tokens where there are enough of them, else says how long until there are.
    fn take(&mut self, cost: f64, now: Instant) -> Result<(), Duration> {
        let share = now.saturating_duration_since(self.refilled).as_secs_f64() / self.period.as_secs_f64();
        self.tokens = (self.tokens + share * self.allowance).min(self.allowance);
        self.refilled = now;
        if self.tokens >= cost {
            self.tokens -= cost;
            return Ok(());
        }
        Err(self.period.mul_f64(((cost - self.tokens) / self.allowance.max(1.0)).min(1.0)))
    }

    fn put_back(&mut self, cost: f64) {
        self.tokens = (self.tokens + cost).min(self.allowance);
    }
}

/// An open connection of a client; dropping it closes the count.
#[derive(Debug)]
pub(super) struct Visit {
    gate: Gate,
    client: IpAddr,
    /// The client is over its limit: every request is answered with 429 and this wait.
    pub(super) refused: Option<Duration>,
}

/// Body bytes taken from the allowances in advance; dropping it gives back what was not used.
#[derive(Debug)]
pub(super) struct Reservation {
    gate: Gate,
    client: IpAddr,
    unused: u64,
}

impl Gate {
    pub(super) fn new(limits: Limits, now: Instant) -> Self {
        let bytes = Bucket::full(limits.bytes_per_hour, HOUR, now);
        let table = Table { open: 0, bytes, clients: HashMap::new() };
        Self { limits: Arc::new(limits), table: Arc::new(Mutex::new(table)) }
    }

    /// Lets a new connection in; `None` is to be dropped at once.
    pub(super) fn enter(&self, address: IpAddr, now: Instant) -> Option<Visit> {
        let client = client_of(address);
        let limits = &*self.limits;
        let mut table = self.table();
        if table.open >= limits.connections {
            return None;
        }
        table.make_room(client);
        let entry = table.clients.entry(client).or_insert_with(|| Client {
            open: 0,
            // Twice the allowance, of which the second half only buys a 429.
            requests: Bucket::full(u64::from(limits.requests_per_minute) * 2, MINUTE * 2, now),
            bytes: Bucket::full(limits.bytes_per_minute, MINUTE, now),
            seen: now,
        });
        entry.seen = now;
        if entry.open >= limits.connections_per_client.saturating_mul(2) {
            return None;
        }
        let by_requests = entry.ask(limits, now)?;
        let by_connections = (entry.open >= limits.connections_per_client).then_some(Duration::from_secs(1));
        entry.open += 1;
        table.open += 1;
        drop(table);
        Some(Visit { gate: self.clone(), client, refused: by_connections.or(by_requests) })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Every change under the lock is complete in itself, so a panic elsewhere leaves nothing half done.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    /// Counts one request. `Some(None)` is within the limit, `Some(wait)` over it, `None` at twice the limit.
    #[allow(clippy::option_option, reason = "three answers, read at two places in this file")]
    fn ask(&mut self, limits: &Limits, now: Instant) -> Option<Option<Duration>> {
        self.requests.take(1.0, now).ok()?;
        let short = f64::from(limits.requests_per_minute) - self.requests.tokens;
        let over = short > 0.0;
        let per_request = 60.0 / f64::from(limits.requests_per_minute.max(1));
        Some(over.then(|| Duration::from_secs_f64((short * per_request).clamp(1.0, 60.0))))
    }
}

impl Table {
    fn make_room(&mut self, newcomer: IpAddr) {
        if self.clients.len() < CLIENTS_MAX || self.clients.contains_key(&newcomer) {
            return;
        }
        let quiet = self.clients.iter().filter(|(_, client)| client.open == 0);
        if let Some(oldest) = quiet.min_by_key(|(_, client)| client.seen).map(|(key, _)| *key) {
            self.clients.remove(&oldest);
        }
    }
}

impl Visit {
    /// Counts one request; the error is how long the client should wait.
    pub(super) fn ask(&self, now: Instant) -> Result<(), Duration> {
        if let Some(wait) = self.refused {
            return Err(wait);
        }
        let mut table = self.gate.table();
        let Some(client) = table.clients.get_mut(&self.client) else { return Ok(()) };
        client.seen = now;
        match client.ask(&self.gate.limits, now) {
            Some(None) => Ok(()),
            Some(Some(wait)) => Err(wait),
            None => Err(MINUTE),
        }
    }

    /// Takes body bytes from this client's allowance and everybody's; the error is how long the client should wait.
    pub(super) fn reserve(&self, bytes: u64, now: Instant) -> Result<Reservation, Duration> {
        let mut table = self.gate.table();
        let Table { bytes: everybody, clients, .. } = &mut *table;
        if let Some(client) = clients.get_mut(&self.client) {
            client.bytes.take(bytes as f64, now)?;
            if let Err(wait) = everybody.take(bytes as f64, now) {
                client.bytes.put_back(bytes as f64);
                return Err(wait);
            }
        }
        drop(table);
        Ok(Reservation { gate: self.gate.clone(), client: self.client, unused: bytes })
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut table = self.gate.table();
        table.open = table.open.saturating_sub(1);
        if let Some(client) = table.clients.get_mut(&self.client) {
            client.open = client.open.saturating_sub(1);
        }
    }
}

impl Reservation {
    /// So many of the reserved bytes went over the line.
    pub(super) fn used(&mut self, bytes: u64) {
        self.unused = self.unused.saturating_sub(bytes);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.unused == 0 {
            return;
        }
        let mut table = self.gate.table();
        table.bytes.put_back(self.unused as f64);
        if let Some(client) = table.clients.get_mut(&self.client) {
            client.bytes.put_back(self.unused as f64);
        }
    }
}

/// The table's key for an address: itself, or the /64 it belongs to.
fn client_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(network))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Limits {
        Limits {
            connections_per_client: 2,
            requests_per_minute: 10,
            bytes_per_minute: 1000,
            connections: 5,
            bytes_per_hour: 1500,
        }
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn over_the_connection_limit_is_refused_and_over_twice_dropped() {
        let now = crate::clock::now();
        let gate = Gate::new(Limits { requests_per_minute: 100, ..small() }, now);
        let visits: Vec<_> = (0..4).map(|_| gate.enter(address(1), now).unwrap()).collect();
        let refused: Vec<_> = visits.iter().map(|visit| visit.refused.is_some()).collect();
        assert_eq!(refused, [false, false, true, true]);
        assert!(gate.enter(address(1), now).is_none());
        assert!(gate.enter(address(2), now).unwrap().refused.is_none(), "another client is not concerned");
        drop(visits);
        assert!(gate.enter(address(1), now).unwrap().refused.is_none(), "closed connections are forgotten");
    }

    #[test]
    fn all_clients_together_are_bounded() {
        let now = crate::clock::now();
        let gate = Gate::new(small(), now);
        let visits: Vec<_> = (0..5).map(|last| gate.enter(address(last), now).unwrap()).collect();
        assert!(gate.enter(address(9), now).is_none());
        drop(visits);
        assert!(gate.enter(address(9), now).is_some());
    }

    #[test]
    fn requests_are_counted_with_their_connections_and_come_back_with_time() {
        let now = crate::clock::now();
        let gate = Gate::new(small(), now);
        let visit = gate.enter(address(1), now).unwrap();
        let answers: Vec<_> = (0..12).map(|_| visit.ask(now).is_ok()).collect();
        assert_eq!(
            answers.iter().filter(|answer| **answer).count(),
            9,
            "ten a minute, the connection being one"
        );
        assert!(visit.ask(now + Duration::from_secs(1)).is_err());
        assert!(visit.ask(now + MINUTE).is_ok());
    }

    #[test]
    fn bytes_are_taken_in_advance_and_what_was_not_sent_is_given_back() {
        let now = crate::clock::now();
        let gate = Gate::new(small(), now);
        let visit = gate.enter(address(1), now).unwrap();
        let mut reservation = visit.reserve(900, now).unwrap();
        let wait = visit.reserve(200, now).unwrap_err();
        assert!((5.9..6.1).contains(&wait.as_secs_f64()), "100 of 1000 a minute are 6 s, not {wait:?}");
        reservation.used(500);
        drop(reservation);
        assert!(visit.reserve(500, now).is_ok());
    }

    #[test]
    fn bytes_of_all_clients_are_bounded_and_a_refusal_costs_nothing() {
        let now = crate::clock::now();
        let gate = Gate::new(small(), now);
        let (one, other) = (gate.enter(address(1), now).unwrap(), gate.enter(address(2), now).unwrap());
        let mut sent = one.reserve(1000, now).unwrap();
        sent.used(1000);
        drop(sent);
        assert!(other.reserve(600, now).is_err());
        assert!(other.reserve(500, now).is_ok(), "the refused 600 were not charged");
    }

    #[test]
    fn the_table_is_bounded_and_forgets_the_quietest() {
        let now = crate::clock::now();
        let gate = Gate::new(small(), now);
        let stays = gate.enter(address(1), now).unwrap();
        for number in 0..CLIENTS_MAX as u32 + 100 {
            let later = now + Duration::from_millis(u64::from(number));
            gate.enter(IpAddr::from((0x0a00_0000 + number).to_be_bytes()), later).unwrap();
        }
        let table = gate.table();
        assert_eq!(table.clients.len(), CLIENTS_MAX);
        assert!(table.clients.contains_key(&stays.client), "who is connected is not forgotten");
    }

    #[test]
    fn an_ipv6_client_is_its_64_and_a_mapped_address_is_ipv4() {
        let text = |address: &str| client_of(address.parse().unwrap()).to_string();
        assert_eq!(text("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(text("::ffff:192.0.2.7"), "192.0.2.7");
    }
}
