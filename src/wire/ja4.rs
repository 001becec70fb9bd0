//! The JA4 fingerprint of a `ClientHello` (<https://github.com/FoxIO-LLC/ja4/blob/main/technical_details/JA4.md>).
//!
//! It sorts what clients shuffle and leaves out the name, so that all hellos of one client program look alike: it tells
//! which program an observer of the line sees.

use aws_lc_rs::digest;

const EXTENSION_NAME: u16 = 0x0000;
const EXTENSION_SIGNATURES: u16 = 0x000d;
const EXTENSION_ALPN: u16 = 0x0010;
const EXTENSION_VERSIONS: u16 = 0x002b;

/// The fingerprint of the `ClientHello` in these TLS records, as sent over TCP. `None` when they do not hold a whole one.
pub fn ja4(records: &[u8]) -> Option<String> {
    let handshake = join_records(records)?;
    let mut message = Cursor(&handshake);
    if message.u8()? != 1 {
        return None;
    }
    let length = (usize::from(message.u8()?) << 16) | usize::from(message.u16()?);
    let mut body = Cursor(message.take(length)?);
    let legacy_version = body.u16()?;
    body.take(32)?;
    let session = body.u8()?;
    body.take(usize::from(session))?;
    let ciphers_length = body.u16()?;
    let ciphers = numbers(body.take(usize::from(ciphers_length))?);
    let compressions = body.u8()?;
    body.take(usize::from(compressions))?;
    let extensions = match body.u16() {
        Some(length) => Extensions::read(body.take(usize::from(length))?)?,
        None => Extensions::default(),
    };
    Some(render(legacy_version, ciphers, extensions))
}

fn render(legacy_version: u16, mut ciphers: Vec<u16>, extensions: Extensions) -> String {
    let version = match extensions.version.unwrap_or(legacy_version) {
        0x0304 => "13",
        0x0303 => "12",
        0x0302 => "11",
        0x0301 => "10",
        0x0300 => "s3",
        _ => "00",
    };
    let name = if extensions.kinds.contains(&EXTENSION_NAME) { 'd' } else { 'i' };
    let (cipher_count, extension_count) = (ciphers.len().min(99), extensions.kinds.len().min(99));
    ciphers.sort_unstable();
    let mut kinds = extensions.kinds;
    kinds.retain(|kind| ![EXTENSION_NAME, EXTENSION_ALPN].contains(kind));
    kinds.sort_unstable();
    let mut listed = hex_list(&kinds);
    if !kinds.is_empty() && !extensions.signatures.is_empty() {
        listed.push('_');
        listed.push_str(&hex_list(&extensions.signatures));
    }
    format!(
        "t{version}{name}{cipher_count:02}{extension_count:02}{}_{}_{}",
        extensions.alpn,
        short_hash(&hex_list(&ciphers)),
        short_hash(&listed)
    )
}

/// What of the extensions the fingerprint is made of.
struct Extensions {
    kinds: Vec<u16>,
    signatures: Vec<u16>,
    version: Option<u16>,
    alpn: String,
}

impl Default for Extensions {
    fn default() -> Self {
        Self { kinds: Vec::new(), signatures: Vec::new(), version: None, alpn: "00".to_owned() }
    }
}

impl Extensions {
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut found = Self::default();
        let mut rest = Cursor(bytes);
        while !rest.0.is_empty() {
            let kind = rest.u16()?;
            let length = rest.u16()?;
            let data = rest.take(usize::from(length))?;
            if is_grease(kind) {
                continue;
            }
            found.kinds.push(kind);
            match kind {
                EXTENSION_SIGNATURES => found.signatures = numbers(data.get(2..)?),
                EXTENSION_VERSIONS => found.version = numbers(data.get(1..)?).into_iter().max(),
                EXTENSION_ALPN => found.alpn = alpn_ends(data).unwrap_or_else(|| "00".to_owned()),
                _ => {}
            }
        }
        Some(found)
    }
}

/// First and last character of the first protocol; of its hexadecimal form when they are not alphanumeric.
fn alpn_ends(data: &[u8]) -> Option<String> {
    let length = usize::from(*data.get(2)?);
    let protocol = data.get(3..3 + length)?;
    let (&first, &last) = (protocol.first()?, protocol.last()?);
    Some(if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
        format!("{}{}", char::from(first), char::from(last))
    } else {
        format!("{:x}{:x}", first >> 4, last & 0x0f)
    })
}

/// The handshake bytes that the records carry, without the record headers.
fn join_records(records: &[u8]) -> Option<Vec<u8>> {
    let mut rest = Cursor(records);
    let mut joined = Vec::with_capacity(records.len());
    while !rest.0.is_empty() {
        if rest.u8()? != 0x16 {
            break;
        }
        rest.u16()?;
        let length = rest.u16()?;
        joined.extend_from_slice(rest.take(usize::from(length))?);
    }
    Some(joined)
}

/// Big-endian 16-bit numbers, without the reserved ones that clients strew in (GREASE, RFC 8701).
fn numbers(bytes: &[u8]) -> Vec<u16> {
    bytes
        .chunks_exact(2)
        .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
        .filter(|&number| !is_grease(number))
        .collect()
}

fn is_grease(number: u16) -> bool {
    number & 0x0f0f == 0x0a0a && number >> 8 == number & 0xff
}

fn hex_list(numbers: &[u16]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(numbers.len() * 5);
    for (index, number) in numbers.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        // Writing to a string cannot fail.
        let _ = write!(text, "{comma}{number:04x}");
    }
    text
}

fn short_hash(text: &str) -> String {
    use std::fmt::Write as _;
    if text.is_empty() {
        return "000000000000".to_owned();
    }
    let mut short = String::with_capacity(12);
    for byte in &digest::digest(&digest::SHA256, text.as_bytes()).as_ref()[..6] {
        let _ = write!(short, "{byte:02x}");
    }
    short
}

/// The rest of the bytes to read.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(length)?;
        self.0 = tail;
        Some(head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification: ciphers, extensions and signature algorithms as given there.
    #[test]
    fn is_the_example_of_the_specification() {
        let ciphers = vec![
            0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014, 0x009c,
            0x009d, 0x002f, 0x0035,
        ];
        let extensions = Extensions {
            kinds: vec![
                0x001b, 0x0000, 0x0033, 0x0010, 0x4469, 0x0017, 0x002d, 0x000d, 0x0005, 0x0023, 0x0012,
                0x002b, 0xff01, 0x000b, 0x000a, 0x0015,
            ],
            signatures: vec![0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601],
            version: Some(0x0304),
            alpn: "h2".to_owned(),
        };
        assert_eq!(render(0x0303, ciphers, extensions), "t13d1516h2_8daaf6152771_e5627efa2ab1");
    }

    #[test]
    fn knows_grease_and_bears_any_bytes() {
        assert!(is_grease(0x0a0a) && is_grease(0xfafa) && !is_grease(0x0a1a) && !is_grease(0x1301));
        assert_eq!(ja4(b""), None);
        assert_eq!(ja4(&[0x16, 3, 1, 0, 4, 1, 0, 0, 9]), None);
        assert_eq!(ja4(b"GET / HTTP/1.1\r\n\r\n"), None);
    }
}
