use std::{cmp::Reverse, collections::BinaryHeap};

use proptest::prelude::*;

use super::*;

const HOUR: Duration = Duration::from_hours(1);

fn target(interval: u64, bytes: u64) -> ScheduledTarget {
    ScheduledTarget { interval: Duration::from_secs(interval), bytes, compared: true, group: None }
}

fn settings(bytes_per_hour: u64, bytes_per_day: u64) -> ScheduleSettings {
    ScheduleSettings { bytes_per_hour, bytes_per_day }
}

/// What a simulated round came to.
#[derive(Debug, Clone, Copy)]
struct Ran {
    due: Due,
    began: Duration,
    ended: Duration,
    used: u64,
}

/// Runs a schedule in virtual time: rounds take up to `longest` and use up to what was reserved for them.
fn simulate(
    schedule: &mut Schedule,
    span: Duration,
    longest: Duration,
    seed: u64,
    mut judge: impl FnMut(&Due, Duration) -> Outcome,
) -> (Vec<Ran>, Vec<(usize, SkipReason)>) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (mut ran, mut skipped) = (Vec::new(), Vec::new());
    let mut running: BinaryHeap<Reverse<(Duration, usize)>> = BinaryHeap::new();
    loop {
        let end = running.peek().map(|Reverse((end, _))| *end);
        let due = schedule.next().map(|(due, _)| due).filter(|due| *due <= span);
        match (end, due) {
            (Some(end), due) if due.is_none_or(|due| end <= due) => {
                let index = running.pop().map_or(0, |Reverse((_, index))| index);
                let Ran { due, used, .. } = ran[index];
                let outcome = judge(&due, end);
                schedule.settle(&due, used, end, outcome);
            }
            (_, Some(now)) => match schedule.take(now) {
                Some(Taken::Run(due)) => {
                    let ended = now + longest.mul_f64(rng.random());
                    let used = (due.reserve_bytes as f64 * rng.random::<f64>().max(0.3)) as u64;
                    running.push(Reverse((ended, ran.len())));
                    ran.push(Ran { due, began: now, ended, used });
                }
                Some(Taken::Skipped { target, reason }) => skipped.push((target, reason)),
                None => panic!("what is due can be taken"),
            },
            _ => return (ran, skipped),
        }
    }
}

/// Most bytes that rounds which ended in any window of this width used.
fn most_in_any(ran: &[Ran], width: Duration) -> u64 {
    let mut ends: Vec<(Duration, u64)> = ran.iter().map(|ran| (ran.ended, ran.used)).collect();
    ends.sort();
    let (mut most, mut sum, mut first) = (0, 0, 0);
    for (ended, used) in &ends {
        sum += used;
        while ends[first].0 + width <= *ended {
            sum -= ends[first].1;
            first += 1;
        }
        most = most.max(sum);
    }
    most
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever is measured, wished and suspected: no hour and no day exceeds its budget, and nobody starves.
    #[test]
    fn budgets_hold_and_nobody_starves(
        wishes in proptest::collection::vec((1_u64..1_200, prop_oneof![Just(1_024_u64), Just(131_072), Just(409_600)]), 1..25),
        hour in 6_000_000_u64..40_000_000,
        suspicious in 0_u32..100,
        seed: u64,
    ) {
        let targets: Vec<_> = wishes.iter().map(|(interval, bytes)| target(*interval, *bytes)).collect();
        let mut schedule = Schedule::new(&targets, settings(hour, hour * 8), seed);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let outcome = |_: &Due, _| {
            if rng.random_range(0..100) < suspicious { Outcome::Suspicious } else { Outcome::Calm }
        };
        let span = HOUR * 30;
        let (ran, _) = simulate(&mut schedule, span, Duration::from_secs(20), seed, outcome);
        prop_assert!(most_in_any(&ran, HOUR) <= hour);
        prop_assert!(most_in_any(&ran, HOUR * 24) <= hour * 8);
        for index in 0..targets.len() {
            let mut begun: Vec<Duration> =
                ran.iter().filter(|ran| ran.due.target == index).map(|ran| ran.began).collect();
            begun.insert(0, Duration::ZERO);
            begun.push(span);
            let blind = begun.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().unwrap_or_default();
            // The longest gap is 2.9 intervals; a few may be skipped in a row while others use what is left of an hour.
            let bound = schedule.effective_interval(index) * 12 + HOUR * 2;
            prop_assert!(blind <= bound, "target {} was blind for {:?}, more than {:?}", index, blind, bound);
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_schedule() {
    let targets = [target(10, 131_072), target(60, 1_024)];
    let run = |seed| {
        let mut schedule = Schedule::new(&targets, settings(20_000_000, 200_000_000), seed);
        let (ran, skipped) = simulate(&mut schedule, HOUR, Duration::from_secs(2), 1, |_, _| Outcome::Calm);
        (ran.iter().map(|ran| ran.due).collect::<Vec<_>>(), skipped)
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn wishes_are_kept_where_the_budget_allows() {
    let targets: Vec<_> = (0..200).map(|_| target(1, 1_024)).collect();
    let mut schedule = Schedule::new(&targets, settings(u64::MAX / 4, u64::MAX / 2), 3);
    assert_eq!(schedule.effective_interval(0), Duration::from_secs(1));
    let (ran, skipped) =
        simulate(&mut schedule, Duration::from_mins(2), Duration::from_millis(5), 3, |_, _| Outcome::Calm);
    // 200 targets for 120 s: 24 000 rounds; the standard error of the count is under 100.
    let count = ran.len() + skipped.len();
    assert!((23_500..24_500).contains(&count), "{count}");
    assert!(skipped.iter().all(|(_, reason)| *reason == SkipReason::Overrun));
}

#[test]
fn small_budgets_are_spread_over_the_whole_day() {
    let targets: Vec<_> = (0..10).map(|_| target(60, 131_072)).collect();
    let mut schedule = Schedule::new(&targets, settings(20_000_000, 100_000_000), 5);
    assert!(schedule.effective_interval(0) > Duration::from_mins(20));
    let (ran, _) = simulate(&mut schedule, HOUR * 48, Duration::from_secs(5), 5, |_, _| Outcome::Calm);
    let in_hour = |hour: u32| {
        ran.iter().filter(|ran| ran.began >= HOUR * hour && ran.began < HOUR * (hour + 1)).count()
    };
    let fewest = (0..48).map(in_hour).min();
    assert!(fewest >= Some(5), "{fewest:?} rounds in the emptiest hour");
}

#[test]
fn intervals_shorten_when_rounds_cost_less_than_feared() {
    let targets: Vec<_> = (0..40).map(|_| target(300, 131_072)).collect();
    let mut schedule = Schedule::new(&targets, settings(20_000_000, 200_000_000), 6);
    let feared = schedule.effective_interval(0);
    let mut now = Duration::ZERO;
    while let Some((due, _)) = schedule.next().filter(|(due, _)| *due < HOUR * 6) {
        now = now.max(due);
        if let Some(Taken::Run(due)) = schedule.take(now) {
            schedule.settle(&due, due.reserve_bytes / 20, now, Outcome::Calm);
        }
    }
    assert!(schedule.effective_interval(0) < feared / 4, "{:?}", schedule.effective_interval(0));
    assert!(schedule.next().is_some_and(|(due, _)| due < HOUR * 7), "and nothing waits for the old ones");
}

#[test]
fn a_group_takes_turns_with_bulk_and_fills_with_handshakes() {
    let member = ScheduledTarget { group: Some(0), ..target(60, 131_072) };
    let api = ScheduledTarget { group: Some(0), ..target(60, 1_024) };
    let mut schedule = Schedule::new(&[member, member, api], settings(u64::MAX / 4, u64::MAX / 2), 9);
    let (ran, _) = simulate(&mut schedule, HOUR, Duration::from_millis(10), 9, |_, _| Outcome::Calm);
    let kinds = |target| -> Vec<RoundKind> {
        ran.iter().filter(|ran| ran.due.target == target).map(|ran| ran.due.kind).collect()
    };
    assert_eq!(kinds(0)[..4], [RoundKind::Bulk, RoundKind::Cheap, RoundKind::Bulk, RoundKind::Cheap]);
    assert_eq!(kinds(1)[..4], [RoundKind::Cheap, RoundKind::Bulk, RoundKind::Cheap, RoundKind::Bulk]);
    assert!(kinds(2).iter().all(|kind| *kind == RoundKind::Cheap));
    assert_eq!((schedule.bulk_every(0), schedule.bulk_every(2)), (Some(2), None));
}

#[test]
fn suspicion_brings_a_closer_look_soon_and_then_more_rarely() {
    let mut schedule = Schedule::new(&[target(3_600, 131_072)], settings(200_000_000, 2_000_000_000), 11);
    let (ran, _) = simulate(&mut schedule, HOUR * 24, Duration::from_secs(5), 11, |_, _| Outcome::Suspicious);
    let looks: Vec<Duration> =
        ran.iter().filter(|ran| ran.due.kind == RoundKind::Confirm).map(|ran| ran.began).collect();
    let first = ran.iter().find(|ran| ran.due.kind == RoundKind::Bulk).map(|ran| ran.ended).unwrap();
    assert!(looks[0].saturating_sub(first) < Duration::from_mins(5), "the first look comes within minutes");
    // 90 s, 6 min, 24 min, 96 min, then every six hours: never dozens a day.
    assert!((5..14).contains(&looks.len()), "{}", looks.len());
}

#[test]
fn a_server_that_asks_for_peace_gets_it() {
    let mut schedule = Schedule::new(&[target(60, 1_024)], settings(200_000_000, 2_000_000_000), 13);
    let mut asked = None;
    let (ran, skipped) = simulate(&mut schedule, HOUR * 3, Duration::from_secs(1), 13, |_, now| {
        if asked.is_some() {
            return Outcome::Calm;
        }
        asked = Some(now);
        Outcome::Backoff(HOUR)
    });
    let asked = asked.unwrap();
    assert!(ran.iter().all(|ran| ran.began <= asked || ran.began >= asked + HOUR));
    assert!(skipped.iter().filter(|(_, reason)| *reason == SkipReason::Backoff).count() > 30);
    assert!(ran.len() > 60, "and is measured again afterwards");
}

#[test]
fn a_closer_look_never_spends_what_routine_rounds_need() {
    let targets: Vec<_> = (0..5).map(|_| target(300, 131_072)).collect();
    let mut schedule = Schedule::new(&targets, settings(20_000_000, 200_000_000), 17);
    let (ran, skipped) =
        simulate(&mut schedule, HOUR * 24, Duration::from_secs(5), 17, |_, _| Outcome::Suspicious);
    let routine = ran.iter().filter(|ran| ran.due.kind != RoundKind::Confirm).count();
    let missed = skipped.iter().filter(|(_, reason)| *reason == SkipReason::Budget).count();
    assert!(routine > 300, "{routine} routine rounds");
    assert!(missed < routine, "{missed} skipped for want of budget");
}

#[test]
fn a_reload_does_not_fill_the_budgets_anew() {
    let mut old = Schedule::new(&[target(1, 131_072)], settings(6_000_000, 60_000_000), 19);
    simulate(&mut old, HOUR, Duration::from_secs(1), 19, |_, _| Outcome::Calm);
    let mut new = Schedule::new(&[target(1, 131_072)], settings(6_000_000, 60_000_000), 20);
    new.inherit(&old, HOUR);
    assert_eq!(new.remaining_bytes(HOUR), old.remaining_bytes(HOUR));
    assert!(new.next().is_some_and(|(due, _)| due >= HOUR));
}

#[test]
fn a_sleep_of_our_machine_is_one_skip_and_not_a_storm() {
    let mut schedule = Schedule::new(&[target(1, 1_024)], settings(200_000_000, 2_000_000_000), 23);
    let woken = HOUR * 8;
    assert_eq!(schedule.take(woken), Some(Taken::Skipped { target: 0, reason: SkipReason::Local }));
    assert_eq!(schedule.take(woken), None);
    assert!(schedule.next().is_some_and(|(due, _)| due >= woken));
}

#[test]
fn measuring_on_demand_leaves_half_of_the_closer_looks_alone() {
    let mut schedule = Schedule::new(&[], settings(10_000_000, 100_000_000), 29);
    assert!(schedule.reserve_on_demand(1_000_000, Duration::ZERO));
    assert!(!schedule.reserve_on_demand(1, Duration::ZERO));
    schedule.settle_on_demand(1_000_000, 0, Duration::ZERO);
    assert!(schedule.reserve_on_demand(1_000_000, Duration::ZERO));
    assert_eq!(schedule.next(), None);
}
