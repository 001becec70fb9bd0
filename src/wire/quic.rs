//! QUIC version 1 Initial packets (RFC 9000, section 17.2.2): whether one is there, and whom it names.
//!
//! A client's Initial is encrypted with keys that anybody can derive from its connection id (RFC 9001, section 5.2), so
//! that a box on the way reads the name as it does over TCP. One datagram is read by itself: a hello that goes on in the
//! next one is not put together.

use aws_lc_rs::aead::{self, quic};
use aws_lc_rs::hkdf;

use super::tls::{self, ClientHello};

/// The salt of version 1 (RFC 9001, section 5.2).
const SALT_V1: [u8; 20] = [
    0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad, 0xcc,
    0xbb, 0x7f, 0x0a,
];
/// Bytes of a hello that are put together, at most: what fits a datagram.
const HELLO_MAX: usize = 4096;

/// Whether a datagram begins with an Initial packet of version 1.
pub fn is_initial_v1(payload: &[u8]) -> bool {
    let &[first, 0, 0, 0, 1, ..] = payload else { return false };
    // Long header, fixed bit, packet type Initial.
    first & 0xf0 == 0xc0
}

/// The ClientHello of a client's Initial packet; nothing where it cannot be read from this datagram alone.
pub fn client_hello(payload: &[u8]) -> Option<ClientHello> {
    if !is_initial_v1(payload) {
        return None;
    }
    let frames = decrypt(payload)?;
    let message = crypto_data(&frames)?;
    tls::client_hello_message(&message)
}

/// Takes header protection and encryption off an Initial; its frames.
fn decrypt(payload: &[u8]) -> Option<Vec<u8>> {
    const SAMPLE: usize = 16;
    let mut at = 5;
    let id = take_short(payload, &mut at)?;
    take_short(payload, &mut at)?;
    let token = usize::try_from(varint(payload, &mut at)?).ok()?;
    at = at.checked_add(token)?;
    let length = usize::try_from(varint(payload, &mut at)?).ok()?;
    let mut packet = payload.get(..at.checked_add(length)?)?.to_vec();
    let keys = Keys::of(id)?;
    let sample = packet.get(at + 4..at + 4 + SAMPLE)?;
    let mask = keys.header.new_mask(sample).ok()?;
    packet[0] ^= mask[0] & 0x0f;
    let number_length = usize::from(packet[0] & 3) + 1;
    let mut number = 0u64;
    for (byte, mask) in packet[at..at + number_length].iter_mut().zip(&mask[1..]) {
        *byte ^= mask;
        number = number << 8 | u64::from(*byte);
    }
    let mut nonce = keys.iv;
    for (byte, number) in nonce[4..].iter_mut().zip(number.to_be_bytes()) {
        *byte ^= number;
    }
    let (header, body) = packet.split_at_mut(at + number_length);
    let nonce = aead::Nonce::assume_unique_for_key(nonce);
    let plain = keys.packet.open_in_place(nonce, aead::Aad::from(&*header), body).ok()?;
    Some(plain.to_vec())
}

/// A length of one byte and as many bytes.
fn take_short<'a>(payload: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
    let length = usize::from(*payload.get(*at)?);
    let start = *at + 1;
    *at = start + length;
    payload.get(start..*at)
}

/// A variable-length integer (RFC 9000, section 16).
fn varint(payload: &[u8], at: &mut usize) -> Option<u64> {
    let first = *payload.get(*at)?;
    let length = 1usize << (first >> 6);
    let bytes = payload.get(*at..*at + length)?;
    *at += length;
    Some(bytes[1..].iter().fold(u64::from(first & 0x3f), |value, &byte| value << 8 | u64::from(byte)))
}

/// The keys of a client's Initial packets.
struct Keys {
    packet: aead::LessSafeKey,
    header: quic::HeaderProtectionKey,
    iv: [u8; 12],
}

impl Keys {
    /// From the connection id that the client chose for the server.
    fn of(connection_id: &[u8]) -> Option<Self> {
        let initial = hkdf::Salt::new(hkdf::HKDF_SHA256, &SALT_V1).extract(connection_id);
        let secret: [u8; 32] = expand(&initial, b"client in")?;
        let secret = hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, &secret);
        let key: [u8; 16] = expand(&secret, b"quic key")?;
        let header: [u8; 16] = expand(&secret, b"quic hp")?;
        Some(Self {
            packet: aead::LessSafeKey::new(aead::UnboundKey::new(&aead::AES_128_GCM, &key).ok()?),
            header: quic::HeaderProtectionKey::new(&quic::AES_128, &header).ok()?,
            iv: expand(&secret, b"quic iv")?,
        })
    }
}

/// HKDF-Expand-Label with an empty context (RFC 8446, section 7.1).
fn expand<const N: usize>(secret: &hkdf::Prk, label: &[u8]) -> Option<[u8; N]> {
    struct Length(usize);
    impl hkdf::KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    let length = (N as u16).to_be_bytes();
    let label_length = [6 + label.len() as u8];
    let info = [&length[..], &label_length, b"tls13 ", label, &[0]];
    let mut out = [0; N];
    secret.expand(&info, Length(N)).ok()?.fill(&mut out).ok()?;
    Some(out)
}

/// What the CRYPTO frames carry, put together; other frames of an Initial are stepped over.
fn crypto_data(frames: &[u8]) -> Option<Vec<u8>> {
    const PADDING: u8 = 0;
    const PING: u8 = 1;
    const CRYPTO: u8 = 6;
    let (mut at, mut data, mut filled) = (0, Vec::new(), 0);
    while let Some(&kind) = frames.get(at) {
        at += 1;
        match kind {
            PADDING | PING => {}
            CRYPTO => {
                let start = usize::try_from(varint(frames, &mut at)?).ok()?;
                let length = usize::try_from(varint(frames, &mut at)?).ok()?;
                let bytes = frames.get(at..at.checked_add(length)?)?;
                at += length;
                let end = start.checked_add(length).filter(|&end| end <= HELLO_MAX)?;
                if data.len() < end {
                    data.resize(end, 0);
                }
                data[start..end].copy_from_slice(bytes);
                filled += length;
            }
            // Acknowledgements and the like come only in later Initials.
            _ => return None,
        }
    }
    // Pieces do not overlap in an honest Initial, so that a gap shows in the sum.
    (filled == data.len()).then_some(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The connection id of RFC 9001, appendix A.
    const ID: [u8; 8] = [0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08];

    /// An Initial with these frames, protected as a client does it.
    fn initial(frames: &[u8]) -> Vec<u8> {
        let keys = Keys::of(&ID).unwrap();
        let mut frames = frames.to_vec();
        frames.resize(1162, 0);
        let mut packet = vec![0xc3, 0, 0, 0, 1, 8];
        packet.extend_from_slice(&ID);
        packet.extend_from_slice(&[0, 0]);
        let length = 4 + frames.len() as u16 + 16;
        packet.extend_from_slice(&(0x4000 | length).to_be_bytes());
        let at = packet.len();
        packet.extend_from_slice(&[0, 0, 0, 2]);
        let mut nonce = keys.iv;
        nonce[11] ^= 2;
        let nonce = aead::Nonce::assume_unique_for_key(nonce);
        keys.packet.seal_in_place_append_tag(nonce, aead::Aad::from(&packet), &mut frames).unwrap();
        packet.extend_from_slice(&frames);
        let mask = keys.header.new_mask(&packet[at + 4..at + 20]).unwrap();
        packet[0] ^= mask[0] & 0x0f;
        for (byte, mask) in packet[at..at + 4].iter_mut().zip(&mask[1..]) {
            *byte ^= mask;
        }
        packet
    }

    fn crypto(offset: u16, bytes: &[u8]) -> Vec<u8> {
        let number = |value: u16| (0x4000 | value).to_be_bytes();
        [&[6], &number(offset)[..], &number(bytes.len() as u16), bytes].concat()
    }

    #[test]
    fn keys_are_those_of_the_standard() {
        let initial = hkdf::Salt::new(hkdf::HKDF_SHA256, &SALT_V1).extract(&ID);
        let secret: [u8; 32] = expand(&initial, b"client in").unwrap();
        let secret = hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, &secret);
        let key: [u8; 16] = expand(&secret, b"quic key").unwrap();
        // RFC 9001, appendix A.1.
        assert_eq!(u128::from_be_bytes(key), 0x1f36_9613_dd76_d546_7730_efcb_e3b1_a22d);
        let header: [u8; 16] = expand(&secret, b"quic hp").unwrap();
        assert_eq!(u128::from_be_bytes(header), 0x9f50_449e_04a0_e810_283a_1e99_33ad_edd2);
    }

    #[test]
    fn name_is_read_also_from_shuffled_pieces() {
        let message = tls::craft::message(Some("rr1.googlevideo.com"), 0);
        let (first, second) = message.split_at(50);
        let frames = [crypto(50, second), vec![1, 0, 0], crypto(0, first)].concat();
        for frames in [crypto(0, &message), frames] {
            let hello = client_hello(&initial(&frames)).unwrap();
            assert_eq!(hello.name.as_deref(), Some("rr1.googlevideo.com"));
        }
        assert_eq!(client_hello(&initial(&crypto(50, second))), None, "a gap at the beginning");
    }

    #[test]
    fn damaged_packets_are_nobodys() {
        let whole = initial(&crypto(0, &tls::craft::message(Some("t.co"), 0)));
        for at in (0..whole.len()).step_by(7) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x55;
            assert_eq!(client_hello(&bytes), None, "byte {at}");
            let _ = client_hello(&whole[..at]);
        }
    }
}
