//! Servers on loopback that misbehave exactly.

use std::{net::SocketAddr, sync::Arc};

use rcgen::{CertificateParams, KeyPair};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, rustls};

/// A server that does one thing with every connection.
pub(crate) async fn peer<F, W>(act: F) -> SocketAddr
where
    F: Fn(TcpStream) -> W + Send + 'static,
    W: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(act(stream));
        }
    });
    address
}

/// A server that answers every request with the same bytes.
pub(crate) async fn answering(response: Vec<u8>) -> SocketAddr {
    let response = Arc::new(response);
    peer(move |mut stream| {
        let response = Arc::clone(&response);
        async move {
            while request(&mut stream).await.is_some() {
                if stream.write_all(&response).await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

/// The next request's head.
pub(crate) async fn request<S: AsyncRead + Unpin>(stream: &mut S) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

pub(crate) async fn forever() {
    std::future::pending::<()>().await;
}

pub(crate) fn reset(stream: TcpStream) {
    stream.set_zero_linger().unwrap();
    drop(stream);
}

pub(crate) fn object(length: usize) -> Vec<u8> {
    let mut response = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").into_bytes();
    response.resize(response.len() + length, b'x');
    response
}

/// Answers with the head of a 100 000 byte object and 18 000 bytes of it, then acts.
pub(crate) async fn partial<F, W>(act: F) -> SocketAddr
where
    F: Fn(TcpStream) -> W + Send + Sync + Copy + 'static,
    W: Future<Output = ()> + Send + 'static,
{
    peer(move |mut stream| async move {
        request(&mut stream).await;
        let mut data = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n".to_vec();
        data.resize(data.len() + 18_000, b'x');
        stream.write_all(&data).await.unwrap();
        act(stream).await;
    })
    .await
}

/// How a certificate is wrong.
pub(crate) fn certificate(change: impl FnOnce(&mut CertificateParams)) -> (String, TlsAcceptor) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    change(&mut params);
    let certificate = params.self_signed(&key).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap();
    (certificate.pem(), TlsAcceptor::from(Arc::new(config)))
}

/// A TLS server that does one thing after the handshake.
pub(crate) async fn secure<F, W>(acceptor: TlsAcceptor, act: F) -> SocketAddr
where
    F: Fn(tokio_rustls::server::TlsStream<TcpStream>) -> W + Send + Sync + Copy + 'static,
    W: Future<Output = ()> + Send + 'static,
{
    peer(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                act(stream).await;
            }
        }
    })
    .await
}

pub(crate) async fn serve_objects<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    while request(&mut stream).await.is_some() {
        stream.write_all(&object(100_000)).await.unwrap();
    }
}
