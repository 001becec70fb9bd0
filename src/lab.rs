//! The laboratory: a middlebox with known rules between real kernel TCP stacks.
