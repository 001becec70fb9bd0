//! One transfer curve: what mechanism made it, at which rate, after which burst.
