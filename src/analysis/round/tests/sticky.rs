//! Addresses that stay slow once they were shown the name, and lines that become slow at that moment.

use std::collections::BTreeSet;

use proptest::prelude::*;
use rand::{SeedableRng as _, rngs::ChaCha8Rng};

use super::*;
use crate::model::Mechanism;

/// What decides how slow an exchange is: the server's address, when (the count of exchanges so far), under which name.
trait World {
    /// Seconds of the handshake.
    fn handshake(&mut self, address: u8, at: u32, role: Role) -> f64;
}

impl<F: FnMut(u8, u32, Role) -> f64> World for F {
    fn handshake(&mut self, address: u8, at: u32, role: Role) -> f64 {
        self(address, at, role)
    }
}

/// A round as the engine takes it, on a server with so many addresses.
fn run(seed: u64, addresses: u8, mut world: impl World) -> RoundJudge {
    let mut coin = ChaCha8Rng::seed_from_u64(seed);
    let mut judge = RoundJudge::new(sni());
    let mut at = 0;
    let mut take = |judge: &mut RoundJudge, role, pair, position, address: u8, cut: Option<Duration>| {
        let tls = world.handshake(address, at, role);
        at += 1;
        let mut one = exchange(role, pair, position, Look { tls, ..uneven(FAST)(pair) });
        one.address = Some(std::net::SocketAddr::from(([192, 0, 2, address], 443)));
        if let Some(cut) = cut {
            one.warmup = true;
            if cut < one.duration {
                one.phases = Timeline::default();
                one.phases.skip(Phase::Resolve);
                one.phases.record(Phase::Connect, cut);
                (one.reached, one.censored, one.requests) = (Phase::Connect, true, vec![]);
                one.curve = TransferCurve::default();
            }
        }
        judge.add(one);
    };
    take(&mut judge, Role::Control, 0, 0, 1, None);
    take(&mut judge, Role::Control, 1, 0, 1, None);
    let mut further = 2..=addresses;
    for pair in 2..100 {
        match judge.next() {
            Next::Enough => break,
            Next::MorePairs => {
                for (position, &role) in judge.order(coin.random()).iter().enumerate() {
                    take(&mut judge, role, pair, position as u32, 1, None);
                }
            }
            Next::Look => {
                let (_, patience) = judge.address_step("192.0.2.1:443".parse().unwrap());
                take(&mut judge, Role::Control, pair, 0, 1, Some(patience));
            }
            Next::FurtherAddress => {
                let Some(address) = further.next() else { break };
                let mut left = coin.random_range(0..ADDRESS_DRAWS);
                for position in 0.. {
                    let (step, patience) =
                        judge.address_step(std::net::SocketAddr::from(([192, 0, 2, address], 443)));
                    let role = match step {
                        AddressStep::Over => break,
                        AddressStep::Draw if left == 0 => Role::Subject,
                        AddressStep::Draw => {
                            left -= 1;
                            Role::Control
                        }
                        AddressStep::Control => Role::Control,
                    };
                    take(&mut judge, role, pair, position, address, Some(patience));
                }
            }
        }
    }
    judge
}

/// A box that remembers addresses which were shown the name.
fn sticky_box() -> impl World {
    let mut exposed = BTreeSet::new();
    move |address, _, role| {
        if role == Role::Subject {
            exposed.insert(address);
        }
        if exposed.contains(&address) { 3.5 } else { 0.06 }
    }
}

#[test]
fn a_box_that_remembers_addresses_is_told_from_three_of_them() {
    for seed in 0..50 {
        let judge = run(seed, 4, sticky_box());
        let finding = judge.finding();
        assert_eq!(finding.verdict, Verdict::Throttled, "{seed}: {finding:?}");
        assert_eq!(finding.mechanism, Some(Mechanism::HandshakeDelay));
        assert!(finding.evidence.e_value >= 1000.0 && finding.caveats.contains(&Caveat::StickyAddress));
        assert!(finding.evidence.handshake_slowdown.unwrap() > 50.0);
        let addresses: BTreeSet<_> = judge.exchanges.iter().filter_map(|one| one.address).collect();
        assert_eq!(addresses.len(), 3, "no address more than is needed is exposed");
    }
}

#[test]
fn with_too_few_addresses_it_says_what_would_decide() {
    for addresses in [1, 2] {
        let finding = run(1, addresses, sticky_box()).finding();
        assert_eq!(finding.verdict, Verdict::Inconclusive, "{finding:?}");
        assert_eq!(finding.caveats[..2], [Caveat::StickyAddress, Caveat::FewAddresses]);
    }
}

/// What `slow` says of an address from the first exchange under the subject's name on.
fn from_the_first_subject_on(slow: impl Fn(u8) -> bool) -> impl World {
    let mut begun = false;
    move |address, _, role| {
        begun |= role == Role::Subject;
        if begun && slow(address) { 3.5 } else { 0.06 }
    }
}

#[test]
fn a_line_that_slows_down_at_the_first_subject_is_degraded() {
    for seed in 0..50 {
        let finding = run(seed, 4, from_the_first_subject_on(|_| true)).finding();
        assert_eq!(finding.verdict, Verdict::Degraded, "{seed}: {finding:?}");
        assert!(finding.caveats.contains(&Caveat::ControlSlow));
        let lone = run(seed, 1, from_the_first_subject_on(|_| true)).finding();
        assert_eq!(lone.verdict, Verdict::Inconclusive, "{seed}: {lone:?}");
    }
}

#[test]
fn one_address_that_slows_down_alone_accuses_nobody() {
    for seed in 0..50 {
        let finding = run(seed, 4, from_the_first_subject_on(|address| address == 1)).finding();
        assert_eq!(finding.verdict, Verdict::Inconclusive, "{seed}: {finding:?}");
        let finding = run(seed, 4, from_the_first_subject_on(|address| address <= 2)).finding();
        assert!(!finding.verdict.accuses(), "{seed}: {finding:?}");
        // One of two slow from the start.
        let finding = run(seed, 2, |address, _, _| if address == 2 { 3.5 } else { 0.06 }).finding();
        assert_eq!(finding.verdict, Verdict::Normal, "{seed}: {finding:?}");
    }
}

/// The controls before the first subject found the line at its best. Every later transfer is twice as slow as they were, but
/// the subject's again four times as slow as the control's: no box that remembers the address.
#[test]
fn controls_that_were_fast_by_luck_make_no_address_sticky() {
    let scattered = |usual: f64, turn: u32| Look {
        bytes_per_second: usual * [0.6, 1.0, 1.5, 0.8, 1.2][(turn % 5) as usize],
        ..FAST
    };
    let exposed = std::cell::Cell::new(false);
    let subject = |pair| {
        exposed.set(true);
        scattered(125_000.0, 3 * pair)
    };
    let control = |pair| if exposed.get() { scattered(500_000.0, 2 * pair) } else { FAST };
    let finding = super::take(sni(), subject, control).finding();
    assert_eq!(finding.verdict, Verdict::Throttled, "{finding:?}");
    assert!(!finding.caveats.contains(&Caveat::StickyAddress));
}

/// The subject's exchange takes long, and so is easily late; it raises suspicion, and proves nothing.
#[test]
fn a_late_first_exposure_does_not_spoil_what_came_in_time() {
    let mut judge = run(5, 4, sticky_box());
    for exchange in judge.exchanges.iter_mut().filter(|one| !one.warmup && one.role == Role::Subject) {
        exchange.lateness = Duration::from_millis(30);
    }
    assert_eq!(judge.finding().verdict, Verdict::Throttled);
}

#[test]
fn exchanges_of_a_busy_machine_accuse_nobody() {
    let mut judge = run(5, 4, sticky_box());
    for exchange in judge.exchanges.iter_mut().filter(|one| one.warmup) {
        exchange.lateness = Duration::from_millis(30);
    }
    assert!(!judge.finding().verdict.accuses());
}

proptest! {
    /// A bare line that becomes slow in mid-round, at whatever moment, by whatever factor, never accuses: it is slow for
    /// the addresses that were not shown the name as well.
    #[test]
    fn a_bare_line_that_slows_never_accuses(
        seed in any::<u64>(),
        turns in 0_u32..120,
        factor in 1.5_f64..200.0,
        scatter in 0.0_f64..0.5,
    ) {
        let mut noise = ChaCha8Rng::seed_from_u64(seed ^ 1);
        let finding = run(seed, 4, |_, at, _| {
            let usual = 0.06 * (1.0 + scatter * noise.random::<f64>());
            if at >= turns { usual * factor } else { usual }
        }).finding();
        prop_assert!(!finding.verdict.accuses(), "{:?}", finding);
    }
}

/// Moments that an adversary would choose: each further address turns slow at the likeliest step. The share of rounds
/// that accuse is at most α.
#[test]
fn moments_of_its_own_win_no_more_than_stated() {
    let rounds = 4000;
    let accused = (0..rounds)
        .filter(|&seed| {
            let mut steps = std::collections::BTreeMap::<u8, u32>::new();
            let world = |address: u8, _: u32, _: Role| {
                let step = steps.entry(address).or_default();
                *step += 1;
                let turns = if address == 1 { 2 } else { 3 + 5 };
                if *step > turns { 3.5 } else { 0.06 }
            };
            run(seed, 4, world).finding().verdict.accuses()
        })
        .count();
    // 1 in 1600 rounds win both draws; 4000 of them give 2.5 on average and 10 with probability 0.0003.
    assert!(accused <= 9, "{accused} of {rounds}");
}
