//! Bytes of the network, read and written: IP, TCP, UDP, TLS records and ClientHello.
//!
//! Everything here takes a slice and answers with what it says, or with nothing. No clock, no socket, no state: the
//! laboratory's middlebox, the reader of captures and the measuring methods read the same bytes with the same code.
//! Arbitrary input never panics; a fuzz target holds that.

pub mod dns;
pub mod http;
pub mod ja4;
pub mod packet;
pub mod quic;
pub mod tls;
