//! The emulated throttler: passes TCP connections on, and slows those down that show a certain name.
//!
//! It reads the name in the `ClientHello`, as a middlebox does, lets a burst through at full speed and then no more than
//! its rate. It works on streams instead of packets, so that it needs no rights; for packets there is the laboratory.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinSet,
    time,
};

use crate::{clock, wire::tls};

/// Payload that is read at once where it is slowed down: about a segment, so that bytes trickle.
const SLICE: usize = 1_448;

/// Longest `ClientHello` that is waited for.
const HELLO_MAX: usize = 8 * 1024;

/// How long a connection may take to show its name.
const HELLO_WAIT: Duration = Duration::from_secs(10);

/// Connections at once.
const CONNECTIONS_MAX: usize = 256;

/// Whom to slow down, how much, and whether now.
#[derive(Debug)]
pub struct Throttle {
    /// The name, exactly.
    name: String,
    /// Bytes per second, of TCP payload towards the client.
    rate: f64,
    /// What passes at full speed first.
    burst: u64,
    on: AtomicBool,
}

impl Throttle {
    /// A throttle of this name that is off.
    pub fn new(name: &str, rate_bytes_per_second: f64, burst_bytes: u64) -> Self {
        Self {
            name: name.to_owned(),
            rate: rate_bytes_per_second,
            burst: burst_bytes,
            on: AtomicBool::new(false),
        }
    }

    /// Switches it on or off; connections under way notice at once.
    pub fn set(&self, on: bool) {
        self.on.store(on, Ordering::Relaxed);
    }

    fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }
}

/// The relay in front of one server.
#[derive(Debug)]
pub struct Relay {
    listener: TcpListener,
    server: SocketAddr,
    throttle: Arc<Throttle>,
}

impl Relay {
    /// Listens on a free port of the loopback.
    pub async fn bind(server: SocketAddr, throttle: Arc<Throttle>) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        Ok(Self { listener, server, throttle })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Passes connections on until it is dropped.
    pub async fn run(self) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if connections.len() < CONNECTIONS_MAX => {
                    // A client that left before it was taken is none.
                    let Ok((client, _)) = accepted else { continue };
                    connections.spawn(pass(client, self.server, Arc::clone(&self.throttle)));
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

/// One connection, to its end in both directions. Errors end it, as they would on a line.
async fn pass(client: TcpStream, server: SocketAddr, throttle: Arc<Throttle>) -> io::Result<()> {
    let (mut client, client_out) = client.into_split();
    let hello = time::timeout(HELLO_WAIT, hello(&mut client)).await.unwrap_or_else(|_| Ok(Vec::new()))?;
    let name = tls::client_hello(&hello).ok().and_then(|hello| hello.name);
    let server = TcpStream::connect(server).await?;
    server.set_nodelay(true)?;
    let (server, mut server_out) = server.into_split();
    server_out.write_all(&hello).await?;
    let up = async {
        let passed = copy(&mut client, &mut server_out).await;
        server_out.shutdown().await.ok();
        passed.map(|_| ())
    };
    let meant = name.is_some_and(|name| name.eq_ignore_ascii_case(&throttle.name));
    let down = down(server, client_out, meant.then_some(&throttle));
    tokio::try_join!(up, down)?;
    Ok(())
}

/// What the client sends first, until it is a whole `ClientHello` or cannot be one.
async fn hello(client: &mut OwnedReadHalf) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while bytes.len() < HELLO_MAX {
        let read = client.read_buf(&mut bytes).await?;
        let whole = tls::record(&bytes).is_none_or(|record| bytes.len() >= record.length + RECORD_HEADER);
        if read == 0 || (bytes.len() >= RECORD_HEADER && whole) {
            break;
        }
    }
    Ok(bytes)
}

/// Type, version, length (RFC 8446, section 5.1).
const RECORD_HEADER: usize = 5;

/// From the server to the client, slowed down while the throttle is on.
async fn down(
    mut server: OwnedReadHalf,
    mut client: OwnedWriteHalf,
    throttle: Option<&Arc<Throttle>>,
) -> io::Result<()> {
    let Some(throttle) = throttle else {
        copy(&mut server, &mut client).await?;
        return client.shutdown().await;
    };
    let mut slice = vec![0; SLICE];
    let mut passed = 0_u64;
    let mut ready = clock::now();
    loop {
        let read = server.read(&mut slice).await?;
        if read == 0 {
            return client.shutdown().await;
        }
        passed += read as u64;
        if throttle.is_on() && passed > throttle.burst {
            ready = ready.max(clock::now()) + Duration::from_secs_f64(read as f64 / throttle.rate);
            time::sleep_until(ready).await;
        }
        client.write_all(&slice[..read]).await?;
    }
}
