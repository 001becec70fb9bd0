//! `analyze` as a user runs it: formats by content, ids, exit status, malformed input.

mod crowded;

use std::{
    collections::{BTreeMap, HashMap},
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use flate2::{Compression, write::GzEncoder};
use serde_json::Value;

fn analyze(arguments: &[&str], files: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_throttlescope"))
        .arg("analyze")
        .args(arguments)
        .args(files)
        .output()
        .unwrap()
}

fn document(files: &[&Path]) -> Value {
    let output = analyze(&["--json"], files);
    assert!(
        output.status.code().is_some_and(|code| code != 2),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let schema: Value = serde_json::from_str(include_str!("../../docs/schema/analysis-1.json")).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> = validator.iter_errors(&document).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}");
    document
}

/// The policing data, or `None` (said on stderr) where it is absent.
fn policing_data() -> Option<PathBuf> {
    let root = std::env::var_os("THROTTLESCOPE_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"), PathBuf::from);
    let found = root.join("policing");
    if found.join("labels.csv").is_file() {
        return Some(found);
    }
    eprintln!("skipped: no policing data in {} (set THROTTLESCOPE_DATA)", root.display());
    None
}

#[test]
fn curves_in_gzip_are_judged_and_never_accuse() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("curves");
    let mut file = GzEncoder::new(std::fs::File::create(&path).unwrap(), Compression::fast());
    writeln!(file, "trace_id,t_ms,bytes").unwrap();
    for n in 0..200 {
        writeln!(file, "smooth,{},{}", 100 + 10 * n, 1_448 * (n + 1)).unwrap();
    }
    writeln!(file, "smooth,soon,1448").unwrap();
    file.finish().unwrap();
    let output = analyze(&["--json"], &[&path]);
    assert_eq!(output.status.code(), Some(0));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("line 202: `soon` is not a time in milliseconds"), "{stderr}");
    let document = document(&[&path]);
    assert_eq!(document["malformed_rows"], 1);
    assert_eq!(document["curves"][0]["id"], "smooth");
    assert_ne!(document["curves"][0]["mechanism"], "policing");
}

#[test]
fn what_cannot_be_read_is_one_clear_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let silent = [pcap_header(101), frame(0, true, 99, 0, SYN, 0)].concat();
    let cases: [(&str, &[u8], &str); 13] = [
        ("text", b"hello\n", "is no recording we know"),
        (
            "report",
            b"{\"schema\":\"throttlescope/report/1\"}\n",
            "is our own report (--json), which is judged",
        ),
        ("analysis", b"{\n \"schema\": \"throttlescope/analysis/1\"\n}\n", "is our own analysis (--json)"),
        ("empty", b"", "holds nothing to judge: the file is empty"),
        ("blank", b"\n\n", "holds nothing to judge: the file is empty"),
        ("capture", &[0xd4, 0xc3, 0xb2, 0xa1, 2, 0], "is not a pcap or pcapng capture"),
        ("bluetooth", &pcap_header(187), "has link type 187"),
        ("no packets", &pcap_header(101), "holds nothing to judge: no packet\n"),
        ("no payload", &silent, "holds nothing to judge: no TCP payload in its only packet"),
        ("no curves", b"trace_id,t_ms,bytes\n", "holds nothing to judge: no curve below the header\n"),
        (
            "curve",
            b"trace_id,t_ms,bytes\na,b,c\n",
            "no curve below the header, and its only line cannot be read",
        ),
        (
            "no tests",
            b"time,vantage,target,subject_bps,control_bps\n",
            "holds nothing to judge: no test below the header\n",
        ),
        ("no measurements", b"{}\n{\n", "no measurement, and none of its 2 lines can be read"),
    ];
    for (name, content, sentence) in cases {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let output = analyze(&[], &[&path]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{name}: {stderr}");
        assert!(stderr.contains(sentence), "{name}: {stderr}");
    }
    let output = analyze(&[], &[&folder.path().join("absent")]);
    assert_eq!(output.status.code(), Some(2));
}

/// A folder of daily recordings may hold an empty day.
#[test]
fn a_file_with_nothing_in_it_is_told_and_the_others_are_judged() {
    let folder = tempfile::tempdir().unwrap();
    let [empty, full] = ["empty.csv", "full.csv"].map(|name| folder.path().join(name));
    std::fs::write(&empty, "trace_id,t_ms,bytes\n").unwrap();
    std::fs::write(&full, "trace_id,t_ms,bytes\na,10,1448\na,20,2896\n").unwrap();
    let output = analyze(&[], &[&empty, &full]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("empty.csv: holds nothing to judge"), "{stderr}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 curve:"));
}

fn pcap_header(link_type: u32) -> Vec<u8> {
    let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0];
    file.extend(link_type.to_le_bytes());
    file
}

const FIN: u8 = 1;
const SYN: u8 = 2;
const ACK: u8 = 16;

/// Address and port, as they stand in a packet.
type Side = [u8; 6];

const CLIENT: Side = [10, 0, 0, 1, 0x9c, 0x40];
const SERVER: Side = [10, 0, 0, 2, 0x01, 0xbb];

/// One frame of a raw IP capture from (`true`) or to the client.
fn frame(
    milliseconds: u32,
    from_client: bool,
    sequence: u32,
    acknowledged: u32,
    flags: u8,
    length: u16,
) -> Vec<u8> {
    let ways = if from_client { [CLIENT, SERVER] } else { [SERVER, CLIENT] };
    frame_between(u64::from(milliseconds) * 1_000, ways, [sequence, acknowledged], flags, length)
}

/// One frame of a raw IP capture from one side to the other.
fn frame_between(
    microseconds: u64,
    [source, destination]: [Side; 2],
    [sequence, acknowledged]: [u32; 2],
    flags: u8,
    length: u16,
) -> Vec<u8> {
    let total = 40 + length;
    // Captured without the payload, as with `tcpdump -s 40`.
    let mut frame = Vec::with_capacity(56);
    frame.extend((1_600_000_000 + (microseconds / 1_000_000) as u32).to_le_bytes());
    frame.extend(((microseconds % 1_000_000) as u32).to_le_bytes());
    frame.extend(40_u32.to_le_bytes());
    frame.extend(u32::from(total).to_le_bytes());
    frame.extend([0x45, 0]);
    frame.extend(total.to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, 6, 0, 0]);
    frame.extend(&source[..4]);
    frame.extend(&destination[..4]);
    frame.extend(&source[4..]);
    frame.extend(&destination[4..]);
    frame.extend(sequence.to_be_bytes());
    frame.extend(acknowledged.to_be_bytes());
    frame.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    frame
}

/// Sequence numbers wrap, a segment is lost and sent again; two requests. The capture is the client's own.
#[test]
fn a_client_side_capture_gives_one_curve_for_each_request() {
    let base = u32::MAX - 1_000;
    let mut file = pcap_header(101);
    let mut put = |frame: Vec<u8>| file.extend(frame);
    put(frame(0, true, 99, 0, SYN, 0));
    put(frame(50, false, base.wrapping_sub(1), 100, SYN | ACK, 0));
    put(frame(51, true, 100, base, ACK, 0));
    put(frame(60, true, 100, base, ACK, 20));
    put(frame(110, false, base, 120, ACK, 1_000));
    put(frame(111, false, base.wrapping_add(2_000), 120, ACK, 1_000));
    put(frame(112, true, 120, base.wrapping_add(1_000), ACK, 0));
    put(frame(170, false, base.wrapping_add(1_000), 120, ACK, 1_000));
    put(frame(171, true, 120, base.wrapping_add(3_000), ACK, 0));
    put(frame(200, true, 120, base.wrapping_add(3_000), ACK, 20));
    put(frame(250, false, base.wrapping_add(3_000), 140, ACK, 500));
    put(frame(251, true, 140, base.wrapping_add(3_500), ACK, 0));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("client.pcap");
    std::fs::write(&path, file).unwrap();
    let document = document(&[&path]);
    let curves = document["curves"].as_array().unwrap();
    let seen: Vec<(&str, u64, f64, u64)> = curves
        .iter()
        .map(|curve| {
            let number = |key: &str| curve[key].as_u64().unwrap();
            (
                curve["id"].as_str().unwrap(),
                number("bytes"),
                curve["duration_s"].as_f64().unwrap(),
                number("losses"),
            )
        })
        .collect();
    let expected = [
        ("10.0.0.1:40000-10.0.0.2:443#0", 3_000, 0.110, 1),
        ("10.0.0.1:40000-10.0.0.2:443#1", 500, 0.050, 0),
    ];
    assert_eq!(seen, expected);
    assert!((curves[0]["rtt_s"].as_f64().unwrap() - 0.051).abs() < 1e-9);
}

/// Half of what passed, as `tcpdump 'src port 443'` or `'dst port 443'` keeps it; the end of the connection is no data.
#[test]
fn a_capture_of_one_direction_gives_one_curve() {
    let frames = |from_client: bool| {
        let all = [
            (true, frame(0, true, 99, 0, SYN, 0)),
            (false, frame(50, false, 999, 100, SYN | ACK, 0)),
            (true, frame(51, true, 100, 1_000, ACK, 0)),
            (true, frame(60, true, 100, 1_000, ACK, 20)),
            (false, frame(110, false, 1_000, 120, ACK, 1_000)),
            (false, frame(111, false, 2_000, 120, ACK, 1_000)),
            (true, frame(112, true, 120, 3_000, ACK, 0)),
            (false, frame(170, false, 3_000, 120, ACK, 1_000)),
            (true, frame(171, true, 120, 4_000, ACK, 0)),
            (false, frame(5_000, false, 4_000, 120, ACK | FIN, 0)),
            (true, frame(5_001, true, 120, 4_001, ACK, 0)),
        ];
        let kept = all.into_iter().filter(|(way, _)| *way == from_client).flat_map(|(_, frame)| frame);
        [pcap_header(101), kept.collect()].concat()
    };
    let folder = tempfile::tempdir().unwrap();
    for (from_client, duration, segments) in [(false, 0.060, Some(3)), (true, 0.111, None)] {
        let path = folder.path().join(from_client.to_string());
        std::fs::write(&path, frames(from_client)).unwrap();
        let document = document(&[&path]);
        let curves = document["curves"].as_array().unwrap();
        assert_eq!(curves.len(), 1, "{curves:#?}");
        assert_eq!(curves[0]["id"], "10.0.0.1:40000-10.0.0.2:443#0");
        assert_eq!((&curves[0]["bytes"], curves[0]["segments"].as_u64()), (&Value::from(3_000), segments));
        assert!((curves[0]["duration_s"].as_f64().unwrap() - duration).abs() < 1e-9, "{curves:#?}");
    }
}

/// The curves we read from the original captures are those that were derived from them independently.
#[test]
fn original_captures_give_the_published_curves() {
    let Some(data) = policing_data() else { return };
    let Some(_) = super::support::program("xz") else { return };
    let labels = labels(&data);
    let folder = tempfile::tempdir().unwrap();
    let mut compared = 0;
    for capture in std::fs::read_dir(data.join("pcap")).unwrap() {
        let capture = capture.unwrap().path();
        let name = capture.file_name().unwrap().to_str().unwrap();
        let path = folder.path().join("capture.pcap");
        let unpacked = Command::new("xz").arg("-dc").arg(&capture).output().unwrap();
        std::fs::write(&path, unpacked.stdout).unwrap();
        let document = document(&[&path]);
        for curve in document["curves"].as_array().unwrap() {
            let (ends, number) = curve["id"].as_str().unwrap().rsplit_once('#').unwrap();
            let flow = if ends.ends_with(":5001") { "iperf" } else { "cp1" };
            let label = labels
                .values()
                .find(|label| label["file"] == name && label["flow"] == flow && label["chunk"] == number)
                .unwrap_or_else(|| panic!("{name} {ends}#{number} is no known curve"));
            assert_eq!(curve["bytes"].to_string(), label["bytes"], "{name} {ends}#{number}");
            let duration: f64 = label["duration_s"].parse().unwrap();
            let ours = curve["duration_s"].as_f64().unwrap();
            assert!((ours - duration).abs() < 0.005, "{name} {ends}#{number}: {ours} s, not {duration} s");
            compared += 1;
        }
    }
    assert_eq!(compared, 31);
}

fn labels(data: &Path) -> HashMap<String, HashMap<String, String>> {
    let mut reader = csv::Reader::from_path(data.join("labels.csv")).unwrap();
    let rows = reader.deserialize::<HashMap<String, String>>().map(Result::unwrap);
    rows.map(|row| (row["trace_id"].clone(), row)).collect()
}

/// The table of `docs/accuracy-curves.md`: named policing, by cause, rate, burst and sharing.
#[test]
fn policers_are_told_from_other_causes_in_published_recordings() {
    let Some(data) = policing_data() else { return };
    let document = document(&[&data.join("traces.csv.gz")]);
    let labels = labels(&data);
    let mut table: BTreeMap<[String; 5], Row> = BTreeMap::new();
    let mut sums = [Row::default(), Row::default(), Row::default()];
    let mut errors = Vec::new();
    for curve in document["curves"].as_array().unwrap() {
        let label = &labels[curve["id"].as_str().unwrap()];
        let named = curve["mechanism"] == "policing";
        let (policed, shared) = (label["cause"] == "policed", label["cross_traffic"] == "1");
        let lossy = label["lossy"] == "1";
        let key =
            ["cause", "cross_traffic", "lossy", "rate_bps", "burst_bytes"].map(|key| label[key].clone());
        table.entry(key).or_default().add(named);
        match (policed, shared) {
            (false, _) => sums[0].add(named),
            (true, _) if !lossy => {}
            (true, false) => sums[1].add(named),
            (true, true) => sums[2].add(named),
        }
        let rate: f64 = label["rate_bps"].parse().unwrap();
        if let (true, false, true, Some(limit)) =
            (policed, shared, named && rate < 5e6, curve["limit_bytes_per_second"].as_f64())
        {
            // Of each frame of 1514 bytes, 1448 are payload.
            errors.push((limit * 8.0 / (rate * 1_448.0 / 1_514.0) - 1.0).abs());
        }
    }
    eprintln!("cause shared lossy rate_bps burst_bytes: named policing / curves");
    for (key, row) in &table {
        eprintln!("{}: {row}", key.join(" "));
    }
    errors.sort_by(f64::total_cmp);
    let error = errors[errors.len() / 2];
    let [other, alone, shared] = sums;
    eprintln!("not policed {other}, policed alone {alone}, shared {shared}, median rate error {error:.4}");
    // One more than one in a hundred: docs/accuracy-curves.md tells of both.
    assert!(other.named <= 2, "{other} of the curves that are not policed are named so");
    assert!(alone.share() >= 0.95 && shared.share() >= 0.91, "alone {alone}, shared {shared}");
    assert!(error <= 0.05, "the median rate is off by {error}");
}

#[derive(Default)]
struct Row {
    named: u32,
    all: u32,
}

impl Row {
    fn add(&mut self, named: bool) {
        self.all += 1;
        self.named += u32::from(named);
    }

    fn share(&self) -> f64 {
        f64::from(self.named) / f64::from(self.all)
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} / {}", self.named, self.all)
    }
}
