//! A running daemon with a configuration of the test's own.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        mpsc::{Receiver, channel},
    },
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// Port 0 is any free one.
const ANY_PORT: &str = "127.0.0.1:0";

/// `throttlescope run` on a free loopback port.
pub(crate) struct Daemon {
    child: Child,
    folder: Arc<TempDir>,
    pub(crate) address: SocketAddr,
    log: Receiver<String>,
}

impl Daemon {
    /// Starts it with this configuration and waits until it says where it listens.
    pub(crate) fn start(config: &str) -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().unwrap()), config)
    }

    /// The same where an earlier one was: with its store.
    pub(crate) fn start_in(folder: Arc<TempDir>, config: &str) -> Self {
        Self::start_by(Command::new(env!("CARGO_BIN_EXE_throttlescope")), folder, ANY_PORT, config)
    }

    /// Starts another one where this one, which has ended, was: with its store, and on its port, where a scraper looks.
    pub(crate) fn start_again(&self, config: &str) -> Self {
        let command = Command::new(env!("CARGO_BIN_EXE_throttlescope"));
        Self::start_by(command, self.folder(), &self.address.to_string(), config)
    }

    /// The same with a small table of file descriptors.
    pub(crate) fn start_with_descriptors(config: &str, descriptors: u32) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -n {descriptors}; exec \"$0\" \"$@\"")]);
        shell.arg(env!("CARGO_BIN_EXE_throttlescope"));
        Self::start_by(shell, Arc::new(tempfile::tempdir().unwrap()), ANY_PORT, config)
    }

    fn start_by(mut command: Command, folder: Arc<TempDir>, listen: &str, config: &str) -> Self {
        let path = folder.path().join("config.toml");
        fs::write(&path, config).unwrap();
        let mut child = command
            .args(["run", "--web.listen-address", listen, "--seed", "1", "--config"])
            .arg(&path)
            .env("XDG_STATE_HOME", folder.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, log) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _gone = sender.send(line);
            }
        });
        let mut daemon = Self { child, folder, address: ([127, 0, 0, 1], 0).into(), log };
        let line = daemon.wait_for_log("address=");
        let text = line.split("address=").nth(1).unwrap().split_whitespace().next().unwrap();
        daemon.address = text.trim_matches('"').parse().unwrap();
        daemon
    }

    /// Where its files are.
    pub(crate) fn folder(&self) -> Arc<TempDir> {
        Arc::clone(&self.folder)
    }

    /// Its database.
    pub(crate) fn database(&self) -> PathBuf {
        self.folder.path().join("throttlescope/throttlescope.db")
    }

    /// Where its configuration lies, to be changed.
    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("config.toml")
    }

    /// The next line of its log that holds `word`.
    pub(crate) fn wait_for_log(&self, word: &str) -> String {
        let deadline = Instant::now() + Duration::from_mins(1);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.log.recv_timeout(left).unwrap_or_else(|_| panic!("`{word}` was never logged"));
            if line.contains(word) {
                return line;
            }
        }
    }

    /// GETs a path; status and body.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        request(self.address, "GET", path)
    }

    /// POSTs nothing to a path.
    pub(crate) fn post(&self, path: &str) -> (u16, String) {
        request(self.address, "POST", path)
    }

    /// The value of a series in `/metrics`; `None` when it is not there.
    pub(crate) fn metric(&self, series: &str) -> Option<f64> {
        let (status, text) = self.get("/metrics");
        assert_eq!(status, 200);
        text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    /// Waits until a condition on the daemon holds.
    pub(crate) fn wait_until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_mins(1);
        while !condition(self) {
            assert!(Instant::now() < deadline, "never: {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(status.unwrap().success());
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Resident memory, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

/// A bare HTTP/1.1 request: no client library may hide what the daemon answers.
pub(crate) fn request(address: SocketAddr, method: &str, path: &str) -> (u16, String) {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split_whitespace().nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}
