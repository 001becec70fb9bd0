//! How right are we: a drawn corpus of conditions, real transfers through the laboratory, every verdict against the truth.
//!
//! `corpus` draws lines and middleboxes from a seed. `measure` runs the program's own comparison in each of them, many at
//! once, each from a client address with a line of its own, and takes the truth from transfers with the rule on and off.
//! `rivals` judges the very same transfers by Wehe's rule and by fixed thresholds. `tables` and `plots` say what it came
//! to. Every drawn test is in every denominator. `curves` asks the same of the judge of single curves.

mod ablate;
mod corpus;
pub mod curves;
mod measure;
mod outcome;
mod plots;
mod relabel;
mod replay;
mod rivals;
mod tables;
mod truth;

pub use ablate::ablate;
pub use corpus::{Class, Condition, draw};
pub use measure::{EvaluateError, Evaluation, LabLateness, Settings, inside};
pub use outcome::Outcome;
pub use plots::{NAMES as PLOTS, write as write_plots};
pub use relabel::relabel;
pub use replay::again;
pub use tables::render;
