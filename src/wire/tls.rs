//! TLS records and the ClientHello (RFC 8446, sections 4.1.2 and 5.1), as a middlebox reads them: from the bytes of one
//! packet, strictly, and without decrypting anything.

/// Bytes of a record header: type, version, length.
pub const RECORD_HEADER: usize = 5;
/// Bytes of a handshake header: type, length.
pub const HANDSHAKE_HEADER: usize = 4;
/// Content type of a handshake record.
pub const HANDSHAKE: u8 = 22;
/// Handshake type of a ClientHello.
pub const CLIENT_HELLO: u8 = 1;
/// The longest record a sender may make: 2^14 and what encryption adds (RFC 8446, section 5.2).
const RECORD_MAX: usize = 16_384 + 256;

/// A record header at the start of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Content type: 20 change of cipher, 21 alert, 22 handshake, 23 application data, 24 heartbeat.
    pub kind: u8,
    /// Bytes that follow the header, as claimed.
    pub length: usize,
}

/// A ClientHello's name and shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientHello {
    /// The server name as sent; `None` where there is no such extension or it holds no host name.
    pub name: Option<String>,
    /// It carries an `encrypted_client_hello` extension.
    pub encrypted: bool,
    /// Bytes of the handshake message, header included.
    pub length: usize,
    /// What a fingerprint is made of: version, cipher suites and extension types, hashed (FNV-1a).
    pub fingerprint: u64,
}

/// Why bytes are not a ClientHello that a box without reassembly accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoHello {
    /// Not a handshake record, or not a ClientHello in it.
    OtherType,
    /// A ClientHello that goes on beyond these bytes.
    Cut {
        /// Bytes from the record header on that it needs.
        needed: usize,
    },
    /// Lengths contradict each other.
    Malformed,
}

/// Reads a record header of any content type; nothing where it cannot be one.
pub fn record(payload: &[u8]) -> Option<Record> {
    let &[kind, major, minor, high, low, ..] = payload else { return None };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let valid = (20..=24).contains(&kind) && major == 3 && minor <= 4 && length <= RECORD_MAX;
    valid.then_some(Record { kind, length })
}

/// Reads a ClientHello at the very start of a packet's payload, with the limits of the 2021 box: the record must lie
/// whole within the payload, the handshake message whole within the record, and nothing may come before it.
pub fn client_hello(payload: &[u8]) -> Result<ClientHello, NoHello> {
    let record = record(payload).ok_or(NoHello::OtherType)?;
    if record.kind != HANDSHAKE {
        return Err(NoHello::OtherType);
    }
    let body = &payload[RECORD_HEADER..];
    let &[kind, a, b, c, ..] = body else {
        return Err(if body.first().is_none_or(|&kind| kind == CLIENT_HELLO) {
            NoHello::Cut { needed: RECORD_HEADER + record.length }
        } else {
            NoHello::OtherType
        });
    };
    if kind != CLIENT_HELLO {
        return Err(NoHello::OtherType);
    }
    let handshake = HANDSHAKE_HEADER + (usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c));
    if record.length < handshake {
        return Err(NoHello::Malformed);
    }
    if body.len() < record.length {
        return Err(NoHello::Cut { needed: RECORD_HEADER + record.length });
    }
    let mut hello = hello_body(&body[HANDSHAKE_HEADER..handshake]).ok_or(NoHello::Malformed)?;
    hello.length = handshake;
    Ok(hello)
}

/// Reads a ClientHello message without a record around it, as QUIC carries it; nothing where it is cut or malformed.
pub fn client_hello_message(message: &[u8]) -> Option<ClientHello> {
    let &[CLIENT_HELLO, a, b, c, ..] = message else { return None };
    let handshake = HANDSHAKE_HEADER + (usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c));
    let mut hello = hello_body(message.get(HANDSHAKE_HEADER..handshake)?)?;
    hello.length = handshake;
    Some(hello)
}

/// The body of a ClientHello; every length must fit, and the last must end the message.
fn hello_body(body: &[u8]) -> Option<ClientHello> {
    const SERVER_NAME: u16 = 0;
    const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;
    let mut rest = Reader(body);
    let version = rest.u16()?;
    rest.take(32)?;
    let session = usize::from(rest.u8()?);
    if session > 32 {
        return None;
    }
    rest.take(session)?;
    let ciphers = rest.vector16()?;
    if ciphers.is_empty() || ciphers.len() % 2 != 0 {
        return None;
    }
    let compressions = usize::from(rest.u8()?);
    rest.take(compressions)?;
    let mut fingerprint = fnv(fnv(FNV_BASIS, &version.to_be_bytes()), ciphers);
    let (mut name, mut encrypted) = (None, false);
    // TLS 1.2 and older allow a hello without extensions.
    if !rest.0.is_empty() {
        let mut extensions = Reader(rest.vector16()?);
        if !rest.0.is_empty() {
            return None;
        }
        while !extensions.0.is_empty() {
            let kind = extensions.u16()?;
            let value = extensions.vector16()?;
            fingerprint = fnv(fingerprint, &kind.to_be_bytes());
            match kind {
                SERVER_NAME => name = server_name(value),
                ENCRYPTED_CLIENT_HELLO => encrypted = true,
                _ => {}
            }
        }
    }
    Some(ClientHello { name, encrypted, length: 0, fingerprint })
}

/// The host name of a `server_name` extension (RFC 6066, section 3); other name types are no name.
fn server_name(extension: &[u8]) -> Option<String> {
    const HOST_NAME: u8 = 0;
    let mut list = Reader(Reader(extension).vector16()?);
    while !list.0.is_empty() {
        let kind = list.u8()?;
        let name = list.vector16()?;
        if kind == HOST_NAME {
            let name = std::str::from_utf8(name).ok()?;
            return (!name.is_empty()).then(|| name.to_owned());
        }
    }
    None
}

/// Takes bytes off the front; nothing where there are not enough.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(self.u16()?);
        self.take(length)
    }
}

/// Offset basis of the 64-bit FNV-1a hash.
const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;

fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Writes hellos for tests and for the methods that ask what exactly a box reads.
pub mod craft {
    use super::{CLIENT_HELLO, HANDSHAKE};

    /// A ClientHello message (no record) naming `name`, padded by `padding` bytes (RFC 7685).
    pub fn message(name: Option<&str>, padding: usize) -> Vec<u8> {
        let mut extensions = Vec::new();
        if let Some(name) = name {
            let mut list = vec![0];
            vector(&mut list, name.as_bytes());
            let mut value = Vec::new();
            vector(&mut value, &list);
            extension(&mut extensions, 0, &value);
        }
        // Supported versions 1.3 and 1.2; group x25519; one signature scheme.
        extension(&mut extensions, 43, &[4, 3, 4, 3, 3]);
        extension(&mut extensions, 10, &[0, 2, 0, 0x1d]);
        extension(&mut extensions, 13, &[0, 2, 8, 4]);
        if padding > 0 {
            extension(&mut extensions, 21, &vec![0; padding]);
        }
        let mut body = vec![3, 3];
        body.extend_from_slice(&[0x5a; 32]);
        body.push(32);
        body.extend_from_slice(&[0xa5; 32]);
        vector(&mut body, &[0x13, 0x01, 0x13, 0x02, 0xc0, 0x2f]);
        body.extend_from_slice(&[1, 0]);
        vector(&mut body, &extensions);
        let mut message = vec![CLIENT_HELLO];
        message.extend_from_slice(&(body.len() as u32).to_be_bytes()[1..]);
        message.extend_from_slice(&body);
        message
    }

    /// The same within one record.
    pub fn hello(name: Option<&str>, padding: usize) -> Vec<u8> {
        record(HANDSHAKE, &message(name, padding))
    }

    /// One record of any content type.
    pub fn record(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut record = vec![kind, 3, 1];
        vector(&mut record, body);
        record
    }

    fn extension(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
        out.extend_from_slice(&kind.to_be_bytes());
        vector(out, value);
    }

    fn vector(out: &mut Vec<u8>, bytes: &[u8]) {
        out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
        out.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_names_its_server() {
        let hello = client_hello(&craft::hello(Some("abs.twimg.com"), 0)).unwrap();
        assert_eq!(hello.name.as_deref(), Some("abs.twimg.com"));
        assert!(!hello.encrypted);
        assert_eq!(client_hello(&craft::hello(None, 0)).unwrap().name, None);
    }

    #[test]
    fn every_cut_of_a_hello_is_called_cut() {
        let whole = craft::hello(Some("t.co"), 300);
        for end in RECORD_HEADER..whole.len() {
            assert_eq!(
                client_hello(&whole[..end]),
                Err(NoHello::Cut { needed: whole.len() }),
                "cut at {end}"
            );
        }
    }

    #[test]
    fn flipped_bytes_never_panic() {
        let whole = craft::hello(Some("t.co"), 20);
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                let _ = client_hello(&bytes);
            }
        }
    }
}
