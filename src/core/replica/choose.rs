//! Which state of a replica to restore: from its listing the candidates, best first.

use std::collections::{BTreeMap, BTreeSet};

use super::{Manifest, Part, Point, parse_name};
use crate::core::model::Millis;

/// How far to go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// As far as there is anything.
    #[default]
    Newest,
    /// Up to and including this audit entry.
    Seq(i64),
    /// Up to and including this moment.
    Time(Millis),
}

impl Target {
    /// Whether the store at `point` is not past the target.
    pub fn includes(self, point: &Point) -> bool {
        match self {
            Target::Newest => true,
            Target::Seq(seq) => point.head.seq <= seq,
            Target::Time(at) => point.at <= at,
        }
    }
}

/// One generation as its listing shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Generation {
    /// Sizes by index.
    pub segments: BTreeMap<u64, u64>,
    pub snapshots: BTreeMap<u64, u64>,
    pub manifests: BTreeSet<u64>,
}

impl Generation {
    /// Snapshots that were written to their end, newest first.
    pub fn complete(&self) -> impl Iterator<Item = u64> {
        self.manifests.iter().rev().copied().filter(|index| self.snapshots.contains_key(index))
    }

    /// The segments from `first` on without a gap, and the first one missing although later ones are there.
    pub fn run_from(&self, first: u64) -> (u64, Option<u64>) {
        let mut next = first;
        while self.segments.contains_key(&next) {
            next += 1;
        }
        let is_torn = self.segments.range(next..).next().is_some();
        (next, is_torn.then_some(next))
    }
}

/// The generations of a listing, by name, oldest first; names that are not ours are left out.
pub fn generations<'a>(listing: impl IntoIterator<Item = (&'a str, u64)>) -> BTreeMap<String, Generation> {
    let mut all: BTreeMap<String, Generation> = BTreeMap::new();
    for (name, size) in listing {
        let Some((generation, index, part)) = parse_name(name) else { continue };
        let generation = all.entry(generation.to_owned()).or_default();
        match part {
            Part::Segment => drop(generation.segments.insert(index, size)),
            Part::Snapshot => drop(generation.snapshots.insert(index, size)),
            Part::Manifest => drop(generation.manifests.insert(index)),
        }
    }
    all
}

/// Where to begin: the snapshots that are complete and not past the target, in the order in which to try
/// them. A later generation goes before an earlier one: the store went on from where it stood, also where
/// that was an older state brought back on purpose.
pub fn candidates(manifests: Vec<Manifest>, target: Target) -> Vec<Manifest> {
    let mut fitting: Vec<Manifest> =
        manifests.into_iter().filter(|manifest| manifest.point().is_some_and(|p| target.includes(&p))).collect();
    fitting.sort_by(|a, b| (&b.generation, b.first_segment).cmp(&(&a.generation, a.first_segment)));
    fitting
}

/// What may go: names of generations and parts older than the oldest thing that is kept. `kept_since` is the
/// oldest moment that is to stay restorable; the newest complete snapshot before it stays as its basis.
pub fn disposable(
    all: &BTreeMap<String, Generation>,
    taken: &BTreeMap<(String, u64), Millis>,
    kept_since: Millis,
) -> Option<(String, u64)> {
    let mut basis = None;
    for (name, generation) in all {
        for index in generation.manifests.iter().filter(|index| generation.snapshots.contains_key(index)) {
            let key = (name.clone(), *index);
            match taken.get(&key) {
                Some(at) if *at <= kept_since || basis.is_none() => basis = Some(key),
                _ => {}
            }
        }
    }
    basis
}

/// Whether a part lies before the basis that is kept.
pub fn is_before(name: &str, basis: &(String, u64)) -> bool {
    parse_name(name).is_some_and(|(generation, index, _)| (generation, index) < (basis.0.as_str(), basis.1))
}

#[cfg(test)]
mod tests {
    use super::super::{FORMAT, manifest_name, segment_name, snapshot_name};
    use super::*;
    use crate::core::model::Digest;

    fn manifest(generation: &str, first_segment: u64, seq: i64) -> Manifest {
        let zeros = Digest([0; 32]).to_hex();
        Manifest {
            format: FORMAT,
            store: "s".into(),
            generation: generation.into(),
            first_segment,
            previous: zeros.clone(),
            page_size: 4096,
            size: 4096,
            sha256: zeros.clone(),
            stored_size: 1,
            stored_sha256: zeros.clone(),
            audit_seq: seq,
            audit_hash: zeros,
            audit_at: seq * 1000,
            taken_at: seq * 1000,
            schema_version: 1,
            program: String::new(),
        }
    }

    #[test]
    fn the_newest_generation_that_has_begun_by_then_is_taken() {
        let all = || vec![manifest("a", 1, 10), manifest("b", 1, 20), manifest("b", 9, 30)];
        let names = |target| -> Vec<(String, u64)> {
            candidates(all(), target).into_iter().map(|m| (m.generation, m.first_segment)).collect()
        };
        assert_eq!(names(Target::Newest), [("b".into(), 9), ("b".into(), 1), ("a".into(), 1)]);
        assert_eq!(names(Target::Seq(29)), [("b".into(), 1), ("a".into(), 1)]);
        assert_eq!(names(Target::Seq(30)).len(), 3);
        assert_eq!(names(Target::Time(19_999)), [("a".into(), 1)]);
        assert!(names(Target::Seq(9)).is_empty());
    }

    #[test]
    fn a_missing_segment_ends_what_can_be_used() {
        let names = [1, 2, 4].map(|index| segment_name("g", index));
        let all = generations(names.iter().map(|name| (name.as_str(), 5)));
        assert_eq!(all["g"].run_from(1), (3, Some(3)));
        assert_eq!(all["g"].run_from(4), (5, None));
        assert_eq!(all["g"].run_from(9), (9, None));
        assert_eq!(all["g"].complete().count(), 0);
    }

    #[test]
    fn what_lies_before_the_kept_basis_may_go() {
        let mut names = Vec::new();
        for (generation, index) in [("a", 1), ("a", 5), ("b", 1), ("b", 7)] {
            names.extend([snapshot_name(generation, index), manifest_name(generation, index)]);
        }
        // One that was never finished is no basis.
        names.push(snapshot_name("b", 9));
        let all = generations(names.iter().map(|name| (name.as_str(), 1)));
        let taken: BTreeMap<(String, u64), Millis> = [(("a", 1), 10), (("a", 5), 20), (("b", 1), 30), (("b", 7), 40)]
            .map(|((g, i), at)| ((g.into(), i), at))
            .into();
        let basis = |since| disposable(&all, &taken, since).unwrap();
        assert_eq!(basis(25), ("a".into(), 5));
        assert_eq!(basis(30), ("b".into(), 1));
        // Never the last complete one, and not the first while nothing is old enough.
        assert_eq!(basis(1_000_000), ("b".into(), 7));
        assert_eq!(basis(5), ("a".into(), 1));
        assert!(is_before(&segment_name("a", 4), &basis(25)) && !is_before(&segment_name("a", 5), &basis(25)));
        assert!(is_before(&snapshot_name("a", 99), &basis(30)) && !is_before(&manifest_name("b", 1), &basis(30)));
        assert!(!is_before("writer.json", &basis(30)));
    }
}
