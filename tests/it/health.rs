//! `throttlescope health` against small servers.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    process::{Command, Output, Stdio},
    thread,
};

/// Answers one request with this status line, and gives the request's lines.
fn answering(status: &'static str) -> (String, thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let lines = lines.map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        stream.write_all(answer.as_bytes()).unwrap();
        lines
    });
    (address, server)
}

fn health(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_throttlescope")).arg("health").args(arguments).output().unwrap()
}

#[test]
fn a_ready_daemon_is_healthy() {
    let (address, server) = answering("200 OK");
    let output = health(&[&format!("http://{address}/-/ready")]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    assert_eq!(server.join().unwrap()[0], "GET /-/ready HTTP/1.1");
}

#[test]
fn credentials_are_sent_and_never_shown() {
    let (address, server) = answering("503 Service Unavailable");
    let output = Command::new(env!("CARGO_BIN_EXE_throttlescope"))
        .arg("health")
        .env("THROTTLESCOPE_HEALTH_URL", format!("http://user:secret@{address}/-/ready"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let expected =
        format!("throttlescope: http://{address}/-/ready is not ready: it answers 503 Service Unavailable\n");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), expected);
    let request = server.join().unwrap();
    assert!(request.iter().any(|line| line == "authorization: Basic dXNlcjpzZWNyZXQ="), "{request:?}");
}

#[test]
fn no_daemon_is_said_in_one_sentence() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = health(&[&format!("http://user:secret@{unused}/-/ready")]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with(&format!("throttlescope: no answer from http://{unused}/-/ready: ")), "{said}");
    assert!(said.lines().count() == 1 && !said.contains("secret"), "{said}");
    assert_eq!(health(&["nonsense"]).status.code(), Some(2));
}

#[test]
fn a_daemon_behind_tls_is_checked_unless_told_otherwise() {
    let mut server = Command::new(env!("CARGO_BIN_EXE_throttlescope"))
        .args(["serve", "--listen", "127.0.0.1:0"])
        .env_remove("NOTIFY_SOCKET")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let line = BufReader::new(server.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    let url = format!("https://{}/healthz", line.strip_prefix("https ").unwrap());
    let (checked, unchecked) = (health(&[&url]), health(&["-k", &url]));
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(checked.status.code(), Some(2));
    let said = String::from_utf8(checked.stderr).unwrap();
    assert!(said.contains("certificate") && said.lines().count() == 1, "{said}");
    assert_eq!(unchecked.status.code(), Some(0));
}

#[test]
fn what_is_not_asked_over_http_is_said_in_a_sentence() {
    let output = health(&["ftp://127.0.0.1/-/ready"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("`ftp` cannot be asked; write http:// or https://") && said.lines().count() == 1,
        "{said}"
    );
}
