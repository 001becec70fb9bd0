//! The web room over real sockets.
