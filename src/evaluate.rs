//! How right are we: corpus, truth, confusion, the rival rules.
