//! A stranger's server: nginx on free loopback ports, with a certificate authority of its own.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use super::program;

/// A running nginx that serves `/1k`, `/64k` and `/4m` over TLS (HTTP/1.1 and 2) and plain HTTP, on IPv4 and IPv6.
pub(crate) struct Nginx {
    child: Child,
    folder: TempDir,
    pub(crate) https: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) https_v6: SocketAddr,
}

impl Nginx {
    /// Starts it with a certificate for `names`; `None` (said on stderr) where nginx is missing.
    pub(crate) fn start(names: &[&str]) -> Option<Self> {
        let nginx = program("nginx")?;
        let folder = tempfile::tempdir().unwrap();
        write_certificates(&folder, names);
        let root = folder.path().join("root");
        fs::create_dir(&root).unwrap();
        for (name, bytes) in [("1k", 1_024), ("64k", 65_536), ("4m", 4 << 20)] {
            fs::write(root.join(name), noise(bytes)).unwrap();
        }
        let (https, http, https_v6) =
            (free_port("127.0.0.1:0"), free_port("127.0.0.1:0"), free_port("[::1]:0"));
        let path = folder.path().display();
        let config = format!(
            "daemon off; master_process off; pid {path}/pid; error_log {path}/error.log; worker_processes 1;
             events {{ worker_connections 512; }}
             http {{
               access_log off; client_body_temp_path {path}/body; proxy_temp_path {path}/proxy;
               fastcgi_temp_path {path}/fastcgi; uwsgi_temp_path {path}/uwsgi; scgi_temp_path {path}/scgi;
               map $ssl_server_name $pace {{ slow.example 400000; default 0; }}
               server {{
                 limit_rate $pace;
                 listen {https} ssl http2; listen {https_v6} ssl http2; listen {http};
                 ssl_certificate {path}/server.pem; ssl_certificate_key {path}/server.key;
                 root {path}/root;
               }}
             }}"
        );
        fs::write(folder.path().join("nginx.conf"), config).unwrap();
        let child = Command::new(nginx)
            .arg("-c")
            .arg(folder.path().join("nginx.conf"))
            .arg("-p")
            .arg(folder.path())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = Self { child, folder, https, http, https_v6 };
        server.wait_until_it_listens();
        Some(server)
    }

    /// The PEM file of the authority that signed its certificate.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn wait_until_it_listens(&mut self) {
        for _ in 0..1_000 {
            assert!(self.child.try_wait().unwrap().is_none(), "nginx ended: {}", self.log());
            if TcpStream::connect(self.https).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("nginx does not listen: {}", self.log());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("error.log")).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

fn free_port(address: &str) -> SocketAddr {
    TcpListener::bind(address).unwrap().local_addr().unwrap()
}

fn write_certificates(folder: &TempDir, names: &[&str]) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let params = CertificateParams::new(names).unwrap();
    let certificate = params.signed_by(&key, &Issuer::from_params(&ca, &ca_key)).unwrap();
    fs::write(folder.path().join("ca.pem"), ca_certificate.pem()).unwrap();
    fs::write(folder.path().join("server.pem"), certificate.pem()).unwrap();
    fs::write(folder.path().join("server.key"), key.serialize_pem()).unwrap();
}

/// Bytes that do not compress: a multiplicative generator's high bytes.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1_u64;
    (0..bytes)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect()
}
