//! Which exchanges make a round: endpoint, sni swap, sweep, characterize.
