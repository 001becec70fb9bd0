//! Looking at addresses: whether one that was shown the subject's name stays slow for every name.
//!
//! Further addresses of the same server are those that its name resolves to and those that it announces itself
//! ([`docs/serve.md`](../../docs/serve.md)). Each takes small exchanges under the control's name until the step comes
//! that was drawn for it; then it is shown the subject's name once.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
};

use rand::{RngExt as _, rngs::ChaCha8Rng};

use crate::{
    analysis::round::{ADDRESS_DRAWS, AddressStep},
    model::Family,
};

use super::{Leg, Round, leg::Place, pair::Taken};

impl Round<'_> {
    /// One control exchange at the address that was shown the name.
    pub(super) async fn look(&self, pair: u32, taken: &mut Taken<'_>) {
        if let Some((control, address)) = self.control.as_ref().and_then(|leg| Some((leg, leg.address?))) {
            self.take(control, address, pair, 0, taken).await;
        }
    }

    /// Goes through the steps of one further address.
    pub(super) async fn expose(
        &self,
        address: SocketAddr,
        pair: u32,
        rng: &mut ChaCha8Rng,
        taken: &mut Taken<'_>,
    ) {
        let Some(control) = &self.control else { return };
        let mut draws_left = rng.random_range(0..ADDRESS_DRAWS);
        for position in 0.. {
            if self.limits.is_spent(taken.bytes) {
                return;
            }
            let leg = match taken.judge.address_step(address).0 {
                AddressStep::Control => control,
                AddressStep::Draw if draws_left == 0 => &self.subject,
                AddressStep::Draw => {
                    draws_left -= 1;
                    control
                }
                AddressStep::Over => return,
            };
            self.take(leg, address, pair, position, taken).await;
        }
    }

    /// One small exchange at an address, for as long as the judge has patience there.
    async fn take(&self, leg: &Leg, address: SocketAddr, pair: u32, position: u32, taken: &mut Taken<'_>) {
        let patience = taken.judge.address_step(address).1;
        let patience = self.limits.remaining().map_or(patience, |left| left.min(patience));
        let place = Place { round: self.number, pair, position };
        taken.push(leg.look(self.prober, &self.shape, place, address, patience).await);
    }

    /// Addresses of the control's server that were not used yet, those of the family in use first.
    pub(super) async fn further_addresses(&self, announced: &[IpAddr]) -> VecDeque<SocketAddr> {
        let Some((control, used)) = self.control.as_ref().and_then(|leg| Some((leg, leg.address?))) else {
            return VecDeque::new();
        };
        let mut found = self.prober.resolve(&control.url).await.addresses;
        found.extend(announced.iter().map(|&address| SocketAddr::new(address, used.port())));
        let mut further: Vec<SocketAddr> = Vec::new();
        for address in found {
            let fits = self.prober.family().is_none_or(|family| family == Family::from(address));
            if fits && address != used && !further.contains(&address) {
                further.push(address);
            }
        }
        further.sort_by_key(|address| address.is_ipv4() != used.is_ipv4());
        further.into()
    }
}
