//! What a round came to: the finding together with everything it rests on.

use super::{Comparison, Exchange, Finding, TargetId};

/// One subject judged by one comparison, with the exchanges it rests on.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// The subject.
    pub subject: TargetId,
    /// What it was compared with.
    pub control: Option<TargetId>,
    /// How the two relate.
    pub comparison: Comparison,
    /// What was found.
    pub finding: Finding,
    /// One command line that repeats the test.
    pub repeat: String,
    /// Every exchange that was taken for it, in order of time.
    pub exchanges: Vec<Exchange>,
}
