//! QUIC version 1 Initial packets (RFC 9000, section 17.2.2): enough to see that one is there, and whom it names.

use super::tls::ClientHello;

/// Whether a datagram begins with an Initial packet of version 1 from a client.
pub fn is_initial_v1(payload: &[u8]) -> bool {
    let &[first, 0, 0, 0, 1, ..] = payload else { return false };
    // Long header, fixed bit, packet type Initial.
    first & 0xf0 == 0xc0
}

/// The ClientHello of an Initial packet.
pub fn client_hello(_payload: &[u8]) -> Option<ClientHello> {
    None
}
