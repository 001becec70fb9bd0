//! `kill -9` at random moments under load: the database stays whole, nothing committed is lost, no incident is invented
//! or forgotten. `THROTTLESCOPE_KILLS=1000` asks for so many kills instead of the few that CI takes.

mod writer;

use std::{collections::BTreeSet, path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags};
use throttlescope::{
    model::IncidentRecord,
    store::{Reader, Span, StoreError},
};

use crate::{support::Daemon, watch::Line};

const ACTIVE: &str = r#"throttlescope_incident_active{target="lab/slow.example",verdict="throttled"}"#;

/// Xorshift: moments that differ, the same in every run.
struct Moments(u64);

impl Moments {
    fn next(&mut self) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Duration::from_millis(self.0 % 900)
    }
}

/// How many kills are asked for, or so few.
fn kills(few: u32) -> u32 {
    std::env::var("THROTTLESCOPE_KILLS").map_or(few, |kills| kills.parse().unwrap())
}

/// What was seen in the database after a kill.
#[derive(Default)]
struct Seen {
    rounds: BTreeSet<i64>,
    kills: u32,
}

impl Seen {
    /// Looks at the database of a daemon that has just been killed. Before a writer repairs it, as a reader would.
    fn look(&mut self, path: &Path) -> Vec<IncidentRecord> {
        self.kills += 1;
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
        let said: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(said, "ok", "after kill {}", self.kills);
        let orphans: i64 = connection
            .query_row(
                "SELECT (SELECT count(*) FROM exchanges WHERE round NOT IN (SELECT n FROM rounds))
                 + (SELECT count(*) FROM rounds WHERE n NOT IN (SELECT round FROM exchanges))",
                [],
                |row| row.get(0),
            )
            .unwrap();
        assert_eq!(orphans, 0, "a round is there whole or not at all");
        let mut statement = connection.prepare("SELECT n FROM rounds").unwrap();
        let rounds: BTreeSet<i64> =
            statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        let lost: Vec<&i64> = self.rounds.difference(&rounds).collect();
        assert!(lost.is_empty(), "lost after kill {}: {lost:?}", self.kills);
        self.rounds = rounds;
        Reader::new(path.to_owned()).incidents(None, jiff::Timestamp::MIN).unwrap()
    }
}

#[test]
fn nothing_is_lost_or_invented_by_a_thousand_deaths() {
    let kills = kills(14);
    let line = Line::new();
    let mut config = line.config("");
    // Load: names that are never slowed down, each every second.
    let others: Vec<String> = (0..8).map(|n| format!("\"other{n}.example\"")).collect();
    let load = format!(
        "[[via]]\nid = \"load\"\naddress = \"{}\"\nsubjects = [{}]\ncontrols = [\"fast.example\"]\ninterval = \"1s\"\nbytes = \"4KiB\"\n",
        line.address,
        others.join(", ")
    );
    config.push_str(&load);
    let (mut seen, mut moments) = (Seen::default(), Moments(0x9e37_79b9_7f4a_7c15));
    let mut daemon = Daemon::start(&config);
    let mut die = |daemon: &mut Daemon, moments: &mut Moments| {
        std::thread::sleep(moments.next());
        daemon.signal("KILL");
        daemon.wait();
        let incidents = seen.look(&daemon.database());
        *daemon = Daemon::start_in(daemon.folder(), &config);
        incidents
    };
    daemon.wait_until("it measures", |daemon| {
        daemon.metric(r#"throttlescope_exchanges_total{target="lab/slow.example"}"#) > Some(2.0)
    });
    for _ in 0..kills / 2 {
        assert_eq!(die(&mut daemon, &mut moments), [], "an incident was invented");
    }
    line.throttle.set(true);
    daemon.wait_until("the incident is found", |daemon| daemon.metric(ACTIVE) == Some(1.0));
    let incidents = Reader::new(daemon.database());
    daemon
        .wait_until("it is stored", |_| !incidents.incidents(None, jiff::Timestamp::MIN).unwrap().is_empty());
    let known = incidents.incidents(None, jiff::Timestamp::MIN).unwrap().remove(0);
    for _ in 0..kills - kills / 2 {
        let found = die(&mut daemon, &mut moments);
        let ids: Vec<&str> = found.iter().map(|incident| incident.id.as_str()).collect();
        assert_eq!(ids, [known.id.as_str()], "an incident was invented or lost");
        assert_eq!(found[0].incident.end, None);
    }
    daemon.wait_until("it lasts", |daemon| daemon.metric(ACTIVE) == Some(1.0));
    line.throttle.set(false);
    daemon.wait_until("its end is found", |daemon| daemon.metric(ACTIVE) == Some(0.0));
    daemon.signal("TERM");
    assert!(daemon.wait().success());
    let found = seen.look(&daemon.database());
    assert_eq!(found.len(), 1);
    assert!(found[0].id == known.id && found[0].incident.end.is_some());
    // Every round that is there can be read.
    let mut exchanges = 0_usize;
    Reader::new(daemon.database())
        .measurements::<StoreError>(None, Span::default(), |round, _| {
            assert!(seen.rounds.contains(&round));
            exchanges += 1;
            Ok(())
        })
        .unwrap();
    println!("{kills} kills, {} rounds, {exchanges} exchanges", seen.rounds.len());
    assert!(exchanges >= seen.rounds.len());
}
