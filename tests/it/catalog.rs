//! `targets`: the catalogue as people and programs see it.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::Command,
    thread,
};

fn targets(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_throttlescope"))
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .arg("targets")
        .args(arguments)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_table_names_every_target() {
    let table = targets(&[]);
    for expected in
        ["twitter/images", "snapchat/api", "control/google", "canary/microsoft", "handshake", "bulk"]
    {
        assert!(table.contains(expected), "{expected} is missing in\n{table}");
    }
}

#[test]
fn the_document_is_versioned_and_complete() {
    let document: serde_json::Value = serde_json::from_str(&targets(&["--json"])).unwrap();
    assert_eq!(document["schema"], "throttlescope/targets/1");
    let targets = document["targets"].as_array().unwrap();
    let with = |key: &str, value: &str| targets.iter().filter(|target| target[key] == value).count();
    assert_eq!(with("id", "twitter/images"), 1);
    assert_eq!(with("role", "canary"), 1);
    assert!(with("role", "control") >= 4);
    for target in targets.iter().filter(|target| target["role"] == "subject") {
        assert!(target["controls"].as_array().unwrap().len() >= 2, "{target}");
        assert!(target["platform"].is_string());
    }
}

/// Plays a platform: its page links a large file, a small one and a stranger's; its image is gone.
fn play_platform() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream));
        }
    });
    address
}

fn answer(mut stream: TcpStream) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    while let Some(Ok(request)) = lines.next() {
        while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
        let mut words = request.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (status, body) = match path {
            "/" => (
                "200 OK",
                br#"<script src="/app.js"></script><img src="/small.png"><img src="http://ads.example/huge.png">"#.to_vec(),
            ),
            "/app.js" => ("200 OK", vec![b'a'; 300_000]),
            "/small.png" => ("200 OK", vec![b'b'; 900]),
            "/large.png" => ("200 OK", vec![b'c'; 200_000]),
            _ => ("404 Not Found", b"gone".to_vec()),
        };
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
        let body = if method == "HEAD" { &[][..] } else { &body };
        if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).is_err() {
            return;
        }
    }
}

#[test]
fn a_check_says_what_answers_and_proposes_what_to_use_instead() {
    let address = play_platform();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let endpoint = |id: &str, kind: &str, path: &str| {
        format!(
            "[[platform.endpoint]]\nid = \"{id}\"\nkind = \"{kind}\"\nbulk = true\nurl = \"http://www.plat.example{path}\"\n"
        )
    };
    let catalogue = [
        "default_controls = []\n[[platform]]\nid = \"plat\"\nname = \"Plat\"\ndomains = [\"plat.example\"]\n"
            .to_owned(),
        endpoint("page", "page", "/"),
        endpoint("gone", "media", "/gone.png"),
        endpoint("small", "media", "/small.png"),
        endpoint("large", "media", "/large.png"),
    ];
    fs::write(folder.path().join("catalogue.toml"), catalogue.concat()).unwrap();
    let placed = |id: &str, path: &str, address: SocketAddr| {
        format!(
            "[[target]]\nid = \"{id}\"\nurl = \"http://www.plat.example{path}\"\nconnect_to = \"{address}\"\n"
        )
    };
    let config = [
        "[safety]\nacknowledged = true\n[catalog]\nfile = \"catalogue.toml\"\n".to_owned(),
        placed("plat/page", "/", address),
        format!("[[target]]\nid = \"closed\"\nurl = \"http://closed.example/\"\nconnect_to = \"{closed}\"\n"),
    ];
    let path = folder.path().join("config.toml");
    fs::write(&path, config.concat()).unwrap();
    let document = targets(&["check", "--json", "--config", path.to_str().unwrap()]);
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    let check = |id: &str| {
        let rows = document["targets"].as_array().unwrap();
        rows.iter().find(|row| row["id"] == id).unwrap()["check"].clone()
    };
    let large = check("plat/large");
    assert_eq!(
        (&large["answers"], &large["at_least"], &large["bytes"]),
        (&true.into(), &true.into(), &131_072.into())
    );
    assert!(check("plat/large")["proposal"].is_null());
    assert_eq!((&check("plat/gone")["answers"], &check("plat/gone")["status"]), (&false.into(), &404.into()));
    for id in ["plat/gone", "plat/small"] {
        assert_eq!(check(id)["proposal"]["url"], "http://www.plat.example/app.js", "{id}");
        assert_eq!(check(id)["proposal"]["bytes"], 300_000, "{id}");
    }
    assert_eq!(check("closed")["answers"], false);
    assert_eq!(
        (&check("closed")["failure"], &check("closed")["phase"]),
        (&"refused".into(), &"connect".into())
    );
    let table = targets(&["check", "plat", "--config", path.to_str().unwrap()]);
    assert!(table.contains("HTTP status 404; larger: http://www.plat.example/app.js (300.0 kB)"), "{table}");
    assert!(!table.contains("closed"));
}

#[test]
fn a_check_of_the_catalogue_needs_an_acknowledgement() {
    let output = Command::new(env!("CARGO_BIN_EXE_throttlescope"))
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .env_remove("THROTTLESCOPE_SAFETY_ACKNOWLEDGED")
        .args(["targets", "check"])
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("Whoever watches the line sees"), "{stderr}");
    assert!(
        stderr.lines().last().unwrap().starts_with("throttlescope: the safety notice was not acknowledged")
    );
}
