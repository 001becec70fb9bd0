//! Statistics that the other files share; each names its source.
