//! Bytes of the network, read and written: IP, TCP, UDP, TLS records and ClientHello.
