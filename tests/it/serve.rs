//! The measurement server, as the built program, asked by curl and by bare sockets.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use crate::support::program;

/// A running `throttlescope serve` on free loopback ports.
pub(crate) struct Server {
    child: Child,
    pub(crate) https: SocketAddr,
    pub(crate) http: SocketAddr,
}

impl Server {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_throttlescope"))
            .args(["serve", "--listen", "127.0.0.1:0", "--listen-http", "127.0.0.1:0"])
            .args(arguments)
            .env_remove("NOTIFY_SOCKET")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut address = |scheme: &str| {
            let line = lines.next().expect("the server says where it listens");
            line.strip_prefix(scheme).expect("the scheme comes first").trim().parse().unwrap()
        };
        let (https, http) = (address("https"), address("http"));
        assert_eq!(lines.next().as_deref(), Some("ready"));
        Self { child, https, http }
    }

    /// Runs curl over TLS as if `name` were a host of this server. `None` where curl is missing.
    fn curl(&self, name: &str, path: &str, arguments: &[&str]) -> Option<Output> {
        program("curl")?;
        let output = Command::new("curl")
            .args(["-sk", "--max-time", "60", "--connect-to"])
            .arg(format!("{name}:443:{}", self.https))
            .args(arguments)
            .arg(format!("https://{name}{path}"))
            .output();
        Some(output.unwrap())
    }

    /// Sends raw bytes over plain HTTP and reads to the end.
    fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.http).unwrap();
        let mut answer = Vec::new();
        // The server may answer and close before it has read all.
        let _sent = stream.write_all(request.as_bytes());
        let _end = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// The exit status, once the program has ended.
    fn ended(&mut self) -> Option<i32> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            match self.child.try_wait().unwrap() {
                Some(status) => return status.code(),
                None => assert!(Instant::now() < deadline, "still running half a minute after the signal"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The first line of an answer to a plain GET that closes.
fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
}

#[test]
fn any_name_gets_the_same_bytes_over_either_http_version() {
    let server = Server::start(&[]);
    let mut bodies = Vec::new();
    for (name, version) in
        [("abs.twimg.com", "--http1.1"), ("under_score.example", "--http2"), ("t.co", "--http2")]
    {
        let Some(output) = server.curl(name, "/bytes/200000", &[version, "-w", "%{stderr}%{http_version}"])
        else {
            return;
        };
        let expected = if version == "--http2" { "2" } else { "1.1" };
        assert_eq!(String::from_utf8_lossy(&output.stderr), expected);
        assert_eq!(output.stdout.len(), 200_000);
        bodies.push(output.stdout);
    }
    assert!(bodies.windows(2).all(|pair| pair[0] == pair[1]));
    let part = server.curl("t.co", "/bytes/200000", &["-r", "150000-150009"]).unwrap();
    assert_eq!(part.stdout, bodies[0][150_000..150_010]);
    let shorter = server.curl("t.co", "/bytes/100", &[]).unwrap();
    assert_eq!(shorter.stdout, bodies[0][..100], "every length starts alike");
}

#[test]
fn every_path_has_an_object_where_asked_for() {
    let server = Server::start(&["--any-path", "3KB"]);
    let answer = server.raw(&get("/img/logo.png?v=2"));
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("content-length: 3000\r\n"));
    assert!(server.raw(&get("/healthz")).ends_with("ok\n"));
}

#[test]
fn the_certificate_is_a_servers_and_for_the_name_shown() {
    let server = Server::start(&[]);
    if program("openssl").is_none() {
        return;
    }
    let handshake = Command::new("openssl")
        .args(["s_client", "-connect", &server.https.to_string(), "-servername", "abs.twimg.com"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let mut parse = Command::new("openssl")
        .args(["x509", "-noout", "-text"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    parse.stdin.take().unwrap().write_all(&handshake.stdout).unwrap();
    let certificate = String::from_utf8(parse.wait_with_output().unwrap().stdout).unwrap();
    for words in ["DNS:abs.twimg.com", "CA:FALSE", "TLS Web Server Authentication"] {
        assert!(certificate.contains(words), "{words} not in {certificate}");
    }
}

#[test]
fn ranges_heads_and_errors_are_answered_as_http_says() {
    let server = Server::start(&["--bytes-max", "1000"]);
    let status = |request: &str| server.raw(request).lines().next().unwrap_or_default().to_owned();
    assert_eq!(status(&get("/")), "HTTP/1.1 200 OK");
    assert_eq!(status(&get("/healthz")), "HTTP/1.1 200 OK");
    assert_eq!(status(&get("/bytes/1000")), "HTTP/1.1 200 OK");
    assert_eq!(status(&get("/bytes/0")), "HTTP/1.1 200 OK");
    for path in
        ["/bytes/1001", "/bytes/", "/bytes/-1", "/bytes/1e3", "/bytes/10?rate=0", "/bytes/10?delay=99"]
    {
        assert_eq!(status(&get(path)), "HTTP/1.1 400 Bad Request", "{path}");
    }
    assert_eq!(status(&get("/other")), "HTTP/1.1 404 Not Found");
    assert_eq!(status(&get("/upload")), "HTTP/1.1 405 Method Not Allowed");
    assert_eq!(status(&get("/bytes/10").replace("GET", "DELETE")), "HTTP/1.1 405 Method Not Allowed");

    let ranged =
        |range: &str| server.raw(&get("/bytes/100").replace("Host", &format!("Range: {range}\r\nHost")));
    let part = ranged("bytes=90-");
    assert!(part.starts_with("HTTP/1.1 206 Partial Content\r\n"), "{part}");
    assert!(
        part.contains("content-range: bytes 90-99/100\r\n") && part.contains("content-length: 10\r\n"),
        "{part}"
    );
    let none = ranged("bytes=100-");
    assert!(none.starts_with("HTTP/1.1 416") && none.contains("content-range: bytes */100\r\n"), "{none}");

    let head = server.raw(&get("/bytes/777").replace("GET", "HEAD"));
    assert!(head.contains("content-length: 777\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(head.contains("cache-control: no-store\r\n"), "{head}");
}

#[test]
fn uploads_are_counted_and_bounded() {
    let server = Server::start(&["--upload-max", "100000"]);
    let upload = |bytes: usize, more: &[&str]| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&vec![b'x'; bytes]).unwrap();
        let data = format!("@{}", file.path().display());
        let arguments = [&["--data-binary", &data, "-w", " %{http_code}"], more].concat();
        server
            .curl("up.example", "/upload", &arguments)
            .map(|output| String::from_utf8(output.stdout).unwrap())
    };
    let Some(answer) = upload(100_000, &[]) else { return };
    assert_eq!(answer, "{\"bytes\":100000}\n 200");
    assert_eq!(upload(70_000, &["--http1.1"]).unwrap(), "{\"bytes\":70000}\n 200");
    assert_eq!(
        upload(70_000, &["--http1.1", "-H", "Transfer-Encoding: chunked"]).unwrap(),
        "{\"bytes\":70000}\n 200"
    );

    let post =
        |more: &str| server.raw(&format!("POST /upload HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{more}"));
    assert!(post("Content-Length: 100001\r\n\r\n").starts_with("HTTP/1.1 413"));
    let chunk = format!("Transfer-Encoding: chunked\r\n\r\n186a1\r\n{}\r\n0\r\n\r\n", "x".repeat(100_001));
    let answer = post(&chunk);
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 413"),
        "a reset may overtake the answer: {answer}"
    );
}

#[test]
fn a_pace_holds_for_its_name_and_a_query_for_its_request() {
    let server = Server::start(&["--pace", "Slow.Example=50KB"]);
    let seconds = |name: &str, path: &str, more: &[&str]| {
        let arguments = [&["-o", "/dev/null", "-w", "%{time_starttransfer} %{time_total}"], more].concat();
        let line = server.curl(name, path, &arguments).map(|output| text(&output))?;
        let (first, total) = line.split_once(' ').unwrap();
        Some((first.parse::<f64>().unwrap(), total.parse::<f64>().unwrap()))
    };
    let Some((_, fast)) = seconds("fast.example", "/bytes/100000", &[]) else { return };
    for version in ["--http1.1", "--http2"] {
        let (first, slow) = seconds("slow.example", "/bytes/100000", &[version]).unwrap();
        assert!(slow > 1.9, "100 000 bytes at 50 000 a second took {slow} s");
        assert!(first < slow / 2.0, "the first bytes come at once");
        assert!(slow > 4.0 * fast, "slow {slow} s, fast {fast} s");
    }
    // The name in the ClientHello decides, whatever host is asked inside.
    let (_, inner) = seconds("fast.example", "/bytes/100000", &["-H", "Host: slow.example"]).unwrap();
    assert!(inner < 1.9, "the inner host was paced: {inner} s");
    let (_, asked) = seconds("fast.example", "/bytes/20000?rate=20000", &[]).unwrap();
    assert!(asked > 0.9, "20 000 bytes at 20 000 a second took {asked} s");
    let (first, _) = seconds("fast.example", "/bytes/10?delay=0.5", &[]).unwrap();
    assert!(first > 0.5, "the first byte came after {first} s");
}

#[test]
fn a_client_over_its_limits_is_told_to_wait() {
    let server = Server::start(&["--client-requests-per-minute", "10"]);
    let answers: Vec<_> = (0..8).map(|_| server.raw(&get("/healthz"))).collect();
    let served = answers.iter().filter(|answer| answer.starts_with("HTTP/1.1 200")).count();
    assert_eq!(served, 5, "a connection and a request each count: {answers:?}");
    let refused = &answers[6];
    assert!(refused.starts_with("HTTP/1.1 429") && refused.contains("retry-after: "), "{refused}");
    assert!(refused.contains("connection: close"), "{refused}");

    let bytes = ["--client-bytes-per-minute", "1500", "--bytes-max", "1000", "--upload-max", "1000"];
    let server = Server::start(&bytes);
    assert!(server.raw(&get("/bytes/1000")).starts_with("HTTP/1.1 200"));
    assert!(server.raw(&get("/bytes/1000")).starts_with("HTTP/1.1 429"));
}

#[test]
fn too_many_connections_of_one_client_are_refused_then_dropped() {
    let server = Server::start(&["--client-connections", "3"]);
    let held: Vec<_> = (0..3).map(|_| TcpStream::connect(server.http).unwrap()).collect();
    // The server takes connections in order, so the three are counted before the next is.
    assert!(server.raw(&get("/healthz")).starts_with("HTTP/1.1 429"));
    let more: Vec<_> = (0..3).map(|_| TcpStream::connect(server.http).unwrap()).collect();
    assert_eq!(server.raw(&get("/healthz")), "", "at twice the limit nothing is answered");
    drop((held, more));
}

#[test]
fn large_headers_are_refused() {
    let server = Server::start(&[]);
    let header = format!("X-Large: {}\r\nHost", "x".repeat(100_000));
    let answer = server.raw(&get("/").replace("Host", &header));
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert!(server.raw(&get("/healthz")).starts_with("HTTP/1.1 200"), "the server goes on");
}

#[test]
fn sigterm_lets_a_short_transfer_finish_and_ends_with_0() {
    let mut server = Server::start(&[]);
    let mut stream = TcpStream::connect(server.http).unwrap();
    stream.write_all(get("/bytes/10000?rate=10000").as_bytes()).unwrap();
    let mut first = [0; 1];
    stream.read_exact(&mut first).unwrap();
    let _forever = TcpStream::connect(server.https).unwrap();
    server.signal("TERM");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    let head = rest.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    assert_eq!(rest.len() - head, 10_000, "the transfer under way was finished");
    assert_eq!(server.ended(), Some(0));
}

#[test]
fn sigterm_cuts_an_endless_transfer_within_five_seconds() {
    let mut server = Server::start(&[]);
    let mut stream = TcpStream::connect(server.http).unwrap();
    stream.write_all(get("/bytes/1000000?rate=1000").as_bytes()).unwrap();
    stream.read_exact(&mut [0; 1]).unwrap();
    let start = Instant::now();
    server.signal("TERM");
    assert_eq!(server.ended(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn what_cannot_be_is_said_in_one_sentence() {
    let server = Server::start(&[]);
    let fail = |arguments: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_throttlescope")).arg("serve").args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let taken = fail(&["--listen", &server.https.to_string()]);
    let expected = format!("throttlescope: cannot listen on {}; stop the other program there", server.https);
    assert!(taken.starts_with(&expected) && taken.lines().count() == 1, "{taken}");
    let foreign = fail(&["--listen", "192.0.2.1:0"]);
    assert!(foreign.contains("192.0.2.1:0; choose an address of this machine"), "{foreign}");
    let missing =
        fail(&["--listen", "127.0.0.1:0", "--cert", "/nonexistent.pem", "--key", "/nonexistent.pem"]);
    assert!(missing.contains("/nonexistent.pem") && missing.lines().count() == 1, "{missing}");
    let large = fail(&["--listen", "127.0.0.1:0", "--bytes-max", "1TiB"]);
    assert!(large.contains("--bytes-max") && large.lines().count() == 1, "{large}");
}

#[test]
fn a_given_certificate_is_shown_and_read_again_on_sighup() {
    let directory = tempfile::tempdir().unwrap();
    let (cert, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
    let write = || {
        let made = rcgen::generate_simple_self_signed(vec!["own.example".to_owned()]).unwrap();
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    };
    write();
    let server = Server::start(&["--cert", cert.to_str().unwrap(), "--key", key.to_str().unwrap()]);
    let checked = || {
        let ca = ["--cacert", cert.to_str().unwrap()];
        // A later -k cannot be taken back, so this curl is its own.
        Command::new("curl")
            .args(["-s", "--max-time", "60", "--connect-to", &format!("own.example:443:{}", server.https)])
            .args(ca)
            .arg("https://own.example/healthz")
            .output()
    };
    if program("curl").is_none() {
        return;
    }
    assert_eq!(text(&checked().unwrap()), "ok\n");
    write();
    assert!(!checked().unwrap().status.success(), "still the old certificate");
    server.signal("HUP");
    let deadline = Instant::now() + Duration::from_secs(30);
    while !checked().unwrap().status.success() {
        assert!(Instant::now() < deadline, "the new certificate was not read");
    }
}

#[test]
fn systemd_is_told_when_the_server_is_ready() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_throttlescope"))
        .args(["serve", "--listen", "127.0.0.1:0"])
        .env("NOTIFY_SOCKET", &path)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut message = [0; 64];
    let length = socket.recv(&mut message);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(&message[..length.unwrap()], b"READY=1");
}
