//! Inside the laboratory: an independent resolver on loopback, and `measure` with and without it.

use std::{net::IpAddr, process::Command};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::peer::{certificate, request, secure};

/// The truth about every name.
const TRUTH: [IpAddr; 1] = [IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1))];

pub(super) fn step() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (pem, acceptor) = certificate(|_| {});
        let resolver = secure(acceptor, |mut stream| async move {
            while let Some(head) = request(&mut stream).await {
                let length = head.lines().find_map(|line| {
                    let (name, value) = line.split_once(": ")?;
                    name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().unwrap())
                });
                let mut question = vec![0; length.unwrap()];
                stream.read_exact(&mut question).await.unwrap();
                let answer = throttlescope::wire::dns::answer(&question, &TRUTH).unwrap();
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", answer.len());
                stream.write_all(&[head.as_bytes(), &answer].concat()).await.unwrap();
            }
        })
        .await;
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("resolver.pem");
        std::fs::write(&ca, pem).unwrap();
        let url = format!("https://localhost:{}/dns-query", resolver.port());
        let ca = ca.to_str().unwrap().to_owned();
        let (report, status) =
            tokio::task::spawn_blocking(move || measure(&["--cacert", &ca, "--doh", &url])).await.unwrap();
        let results = report["results"].as_array().unwrap();
        let blocked = results.iter().find(|one| one["verdict"] == "blocked");
        let blocked = blocked.unwrap_or_else(|| panic!("{report:#}"));
        assert_eq!((&blocked["blocked_at"], status), (&"dns".into(), 1), "{blocked:#}");
        let (report, status) = tokio::task::spawn_blocking(|| measure(&[])).await.unwrap();
        assert_eq!(status, 3, "nothing is known of another answer: {report:#}");
    });
}

fn measure(options: &[&str]) -> (Value, i32) {
    let output = Command::new(env!("CARGO_BIN_EXE_throttlescope"))
        .args([
            "measure",
            "https://abs.twimg.com/bytes/131072",
            "--control",
            "https://example.org/bytes/131072",
        ])
        // A forged address does not answer, and three seconds of that are enough here.
        .args(["--json", "--timeout", "3s"])
        .args(options)
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .output()
        .unwrap();
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (report, output.status.code().unwrap())
}
