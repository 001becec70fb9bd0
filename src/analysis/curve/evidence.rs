//! How much the marks of a curve speak for a policer: a sum of small decision trees, learnt from simulated transfers
//! and from a part of published recordings (`docs/method/curve.md`), kept as data in `evidence.txt`.
//!
//! The first line of the data is the evidence before any mark is seen. Each further line is one tree in prefix order:
//! `mark<limit` goes on with what holds where the mark is below or at the limit, then with what holds above; `=weight` ends
//! a branch. Weights are natural logarithms of odds.

use std::sync::LazyLock;

use super::marks::{MARKS, Marks, NAMES};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Node {
    /// A mark's index, its limit, and where the branch above the limit begins; below is the next node.
    Split(usize, f64, usize),
    Weight(f64),
}

struct Evidence {
    prior: f64,
    trees: Vec<Vec<Node>>,
}

static EVIDENCE: LazyLock<Evidence> = LazyLock::new(|| {
    parse(include_str!("evidence.txt"))
        .expect("invariant: the embedded evidence is well formed, a test reads it")
});

/// Probability of policing where it is as frequent as in the mixture that was learnt from: three policed curves to
/// about five others.
pub(super) fn of_policing(marks: &Marks) -> f64 {
    let evidence = &*EVIDENCE;
    let sum: f64 = evidence.trees.iter().map(|tree| weight(tree, marks.values())).sum();
    1.0 / (1.0 + (-(evidence.prior + sum)).exp())
}

fn weight(tree: &[Node], values: &[f64; MARKS]) -> f64 {
    let mut index = 0;
    loop {
        match tree.get(index) {
            Some(&Node::Split(mark, limit, above)) => {
                index = if values[mark] <= limit { index + 1 } else { above }
            }
            Some(&Node::Weight(weight)) => return weight,
            None => return 0.0,
        }
    }
}

fn parse(text: &str) -> Option<Evidence> {
    let mut lines = text.lines();
    let prior = lines.next()?.trim().parse().ok()?;
    let trees = lines.map(|line| {
        let mut tree = Vec::new();
        let mut tokens = line.split_whitespace();
        branch(&mut tokens, &mut tree)?;
        tokens.next().is_none().then_some(tree)
    });
    Some(Evidence { prior, trees: trees.collect::<Option<_>>()? })
}

fn branch<'a>(tokens: &mut impl Iterator<Item = &'a str>, tree: &mut Vec<Node>) -> Option<()> {
    let token = tokens.next()?;
    if let Some(weight) = token.strip_prefix('=') {
        tree.push(Node::Weight(weight.parse().ok()?));
        return Some(());
    }
    let (name, limit) = token.split_once('<')?;
    let mark = NAMES.iter().position(|known| *known == name)?;
    let place = tree.len();
    tree.push(Node::Weight(0.0));
    branch(tokens, tree)?;
    tree[place] = Node::Split(mark, limit.parse().ok()?, tree.len());
    branch(tokens, tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_trees_in_prefix_order() {
        let evidence = parse("-1.5\nwindow<1 =0.25 silent<0.5 =2 =3\n").unwrap();
        let mut values = [0.0; MARKS];
        assert!((evidence.prior + 1.5).abs() < 1e-12);
        let is = |values: &[f64; MARKS], weight: f64| {
            (super::weight(&evidence.trees[0], values) - weight).abs() < 1e-12
        };
        assert!(is(&values, 0.25));
        values[0] = 2.0;
        assert!(is(&values, 2.0));
        values[5] = 0.6;
        assert!(is(&values, 3.0));
        assert!(parse("0\nwindow<1 =0.25\n").is_none());
        assert!(parse("0\nnonsense<1 =0 =1\n").is_none());
    }

    #[test]
    fn the_embedded_evidence_is_well_formed() {
        assert!(!EVIDENCE.trees.is_empty());
    }
}
