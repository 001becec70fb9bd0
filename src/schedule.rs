//! When to measure what next: jittered, budgeted, seeded. Pure.
