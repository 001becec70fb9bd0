//! One plain download, every read of it kept.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::{clock, model::CurvePoint};

use super::corpus::Facts;

/// A transfer that takes longer is cut here; its curve is judged as far as it came.
const PATIENCE: Duration = Duration::from_mins(1);

/// The other flows of a lane start so long before the one that is judged.
const OTHERS_AHEAD: Duration = Duration::from_millis(700);

/// Longest head of an answer.
const HEAD_MAX: usize = 8 << 10;

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) handshake_s: f64,
    pub(super) points: Vec<CurvePoint>,
}

/// The judged transfer of this lane, with the other flows that share its bucket where it has such.
pub(super) async fn read(client: Ipv4Addr, server: IpAddr, facts: &Facts) -> Read {
    let others: Vec<_> = (1..facts.flows)
        .map(|_| tokio::spawn(one(client, server, facts.bytes.saturating_mul(u64::from(facts.flows)))))
        .collect();
    if !others.is_empty() {
        tokio::time::sleep(OTHERS_AHEAD).await;
    }
    let read = one(client, server, facts.bytes).await;
    for other in others {
        other.abort();
    }
    read
}

async fn one(client: Ipv4Addr, server: IpAddr, bytes: u64) -> Read {
    let mut read = Read::default();
    // What came before an error or the end of our patience is a curve as well.
    let _cut = timeout(PATIENCE, download(client, server, bytes, &mut read)).await;
    read
}

async fn download(client: Ipv4Addr, server: IpAddr, bytes: u64, read: &mut Read) -> std::io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(client.into(), 0))?;
    let begin = clock::now();
    let mut stream: TcpStream = socket.connect(SocketAddr::new(server, 80)).await?;
    read.handshake_s = (clock::now() - begin).as_secs_f64();
    let request = format!("GET /bytes/{bytes} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n");
    let start = clock::now();
    stream.write_all(request.as_bytes()).await?;
    let mut buffer = vec![0; 64 << 10];
    let (mut head, mut payload) = (Vec::new(), None);
    loop {
        let length = stream.read(&mut buffer).await?;
        let at = clock::now() - start;
        if length == 0 {
            return Ok(());
        }
        let come = if let Some(before) = payload {
            before + length as u64
        } else {
            head.extend_from_slice(&buffer[..length]);
            match head.windows(4).position(|four| four == b"\r\n\r\n") {
                Some(end) => (head.len() - end - 4) as u64,
                None if head.len() > HEAD_MAX => return Err(std::io::ErrorKind::InvalidData.into()),
                None => continue,
            }
        };
        payload = Some(come);
        if come > 0 {
            read.points.push(CurvePoint { at, bytes: come });
        }
    }
}
