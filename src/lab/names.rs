//! What programs inside find on disk: a resolver, and the certificate to trust. All of it lives in memory, in the
//! laboratory's own mount namespace; the machine's files are only covered, never touched.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::sys::{self, Mount};

/// A directory of our own, seen from inside alone.
#[derive(Debug)]
pub(super) struct Names {
    directory: PathBuf,
}

impl Names {
    /// Makes the directory: over `/dev/shm`, which nobody inside shares with the machine anyway.
    pub(super) fn new() -> io::Result<Self> {
        sys::mount(Mount::Private, "/")?;
        let place = ["/dev/shm", "/mnt", "/tmp"]
            .into_iter()
            .find(|place| Path::new(place).is_dir())
            .ok_or_else(|| io::Error::other("there is none of /dev/shm, /mnt, /tmp"))?;
        sys::mount(Mount::Memory, place)?;
        Ok(Self { directory: PathBuf::from(place) })
    }

    /// Writes a file; its path.
    pub(super) fn write(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.directory.join(name);
        fs::write(&path, text)?;
        Ok(path)
    }

    /// Makes programs ask this resolver, and nothing else that the machine may have configured.
    pub(super) fn resolve_at(&self, resolver: IpAddr) -> io::Result<()> {
        let text = format!("nameserver {resolver}\noptions timeout:2 attempts:2\n");
        self.cover("/etc/resolv.conf", &text)?;
        // Without this file glibc does as it says.
        if Path::new("/etc/nsswitch.conf").exists() {
            self.cover("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")?;
        }
        Ok(())
    }

    fn cover(&self, path: &str, text: &str) -> io::Result<()> {
        let target = fs::canonicalize(path)?;
        let name = path.trim_start_matches('/').replace('/', "-");
        let source = self.write(&name, text)?;
        match (source.to_str(), target.to_str()) {
            (Some(source), Some(target)) => sys::mount(Mount::Bind(source), target),
            _ => Err(io::Error::from(io::ErrorKind::InvalidFilename)),
        }
    }
}
