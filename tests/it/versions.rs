//! Databases of earlier versions: they are brought up to date and nothing in them is lost.

use std::{io::Write as _, path::Path, time::Duration};

use flate2::{Compression, write::DeflateEncoder};
use rusqlite::{Connection, params};
use throttlescope::{
    model::{Exchange, Role, TargetId, TransferCurve},
    store::{Reader, RoundRecord, Store},
};

use crate::store::{at, numbered, round, settings};

fn leb128(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// A round as version 1 wrote it: its JSON deflated, then time and bytes of each point of each curve in turn.
fn record_of_version_1(round: &RoundRecord) -> Vec<u8> {
    let bare = |exchange: &Exchange| Exchange { curve: TransferCurve::default(), ..exchange.clone() };
    let bare: Vec<Exchange> = round.exchanges.iter().map(bare).collect();
    let record = serde_json::json!({
        "vantage": round.vantage, "subject": round.target, "control": round.control, "comparison": round.comparison,
        "closer": round.closer, "finding": round.finding, "repeat": round.repeat, "exchanges": bare,
    });
    let mut deflated = DeflateEncoder::new(Vec::new(), Compression::fast());
    deflated.write_all(record.to_string().as_bytes()).unwrap();
    let deflated = deflated.finish().unwrap();
    let mut out = vec![1];
    leb128(&mut out, deflated.len() as u64);
    out.extend(deflated);
    for exchange in &round.exchanges {
        leb128(&mut out, exchange.curve.points().len() as u64);
        let mut before = (Duration::ZERO, 0);
        for point in exchange.curve.points() {
            leb128(&mut out, point.at.saturating_sub(before.0).as_micros() as u64);
            leb128(&mut out, point.bytes - before.1);
            before = (point.at, point.bytes);
        }
    }
    out
}

/// A database of version 1 with one round.
fn version_1(path: &Path, round: &RoundRecord) {
    let connection = Connection::open(path).unwrap();
    let schema = include_str!("../../src/store/v1.sql");
    connection
        .execute_batch(&format!(
            "PRAGMA auto_vacuum = INCREMENTAL; {schema} PRAGMA application_id = 0x74736370; PRAGMA user_version = 1;
             INSERT INTO targets VALUES (1, '{}'), (2, 'control/cdn'); INSERT INTO pairs VALUES (2, 1);
             INSERT INTO outbox VALUES ('1 began https://hooks.example/secret', 0, 'https://hooks.example/secret', NULL)",
            round.target
        ))
        .unwrap();
    let moment = round.at.as_microsecond();
    let record = record_of_version_1(round);
    connection
        .execute("INSERT INTO rounds VALUES (?1, 1, ?2, ?3)", params![round.number, moment, record])
        .unwrap();
    for (place, exchange) in (0_i64..).zip(&round.exchanges) {
        let id = u64::from_str_radix(&exchange.id[..16], 16).unwrap().cast_signed();
        connection
            .execute(
                "INSERT INTO exchanges VALUES (1, ?1, ?2, ?3, ?4, 2, ?5, 0, 0, 131072, NULL, NULL, NULL, NULL, NULL)",
                params![moment, round.number, place, id, exchange.role as i64],
            )
            .unwrap();
    }
}

#[test]
fn a_round_of_version_1_is_read_beside_those_of_today() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.db");
    let mut old = round(1, "shop/images", at(0));
    old.exchanges = vec![numbered(90, Role::Control), numbered(91, Role::Subject)];
    version_1(&path, &old);
    let target = TargetId::new("shop/images");
    assert!(Reader::new(path.clone()).exchanges(&target, 9).is_err(), "only a daemon brings it up to date");
    let (store, restored) = Store::open(settings(&path), |_| {});
    assert_eq!(restored.last_round, 1);
    let new = round(2, "shop/images", at(300));
    assert!(store.submit(crate::store::batch(new.clone())));
    store.close();
    let found = Reader::new(path.clone()).exchanges(&target, 9).unwrap();
    let found: Vec<&Exchange> = found.iter().map(|measurement| &measurement.exchange).collect();
    let wanted: Vec<&Exchange> = new.exchanges.iter().rev().chain(old.exchanges.iter().rev()).collect();
    assert_eq!(found, wanted, "curves and all");
    // Messages of then hold addresses, which may be secrets.
    assert!(restored.outbox.is_empty());
    let bytes = std::fs::read(&path).unwrap();
    assert!(!bytes.windows(6).any(|six| six == b"secret"));
}
