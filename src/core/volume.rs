//! Whether an import brought far less than its schedule usually does, though it said that all went
//! well. Only complete readings of a source compare: what an incremental one brings varies by nature.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Readings that are remembered. Once a source brings less for good, five of nine readings do, and
/// that is then the usual.
const REMEMBERED: usize = 9;
/// Readings without which there is no usual volume.
const ENOUGH: usize = 5;
/// A smaller usual volume is too small to judge by.
const LEAST_USUAL: u64 = 20;
/// Resources of one schedule that are remembered.
const MOST_RESOURCES: usize = 64;

/// A source, or one resource of it, read from end to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// `None` where the whole run was one reading.
    pub resource: Option<String>,
    /// Records it brought: new, changed and unchanged.
    pub got: u64,
}

/// A reading that brought less than half of the usual.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShortImport {
    /// The resource it is about; missing where it is the whole run.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub resource: Option<String>,
    /// The median of the readings before.
    pub expected: u64,
    pub got: u64,
}

/// The volumes of a schedule's last complete readings, oldest first, by resource; the empty name is
/// the whole run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volumes(BTreeMap<String, Vec<u64>>);

impl Volumes {
    /// As the store has them; what is damaged is forgotten.
    pub fn parse(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }

    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Remembers a run's readings. Of those that are short, the one that lacks the most.
    pub fn note(&mut self, readings: &[Reading]) -> Option<ShortImport> {
        let mut short: Option<ShortImport> = None;
        for Reading { resource, got } in readings {
            let name = resource.clone().unwrap_or_default();
            if !self.0.contains_key(&name) && self.0.len() >= MOST_RESOURCES {
                continue;
            }
            let known = self.0.entry(name).or_default();
            if let Some(expected) = usual(known).filter(|usual| is_short(*usual, *got)) {
                let found = ShortImport { resource: resource.clone(), expected, got: *got };
                let lacks = |short: &ShortImport| short.expected - short.got;
                if short.as_ref().is_none_or(|worst| lacks(&found) > lacks(worst)) {
                    short = Some(found);
                }
            }
            known.push(*got);
            known.drain(..known.len().saturating_sub(REMEMBERED));
        }
        short
    }
}

/// The median, once there are enough.
fn usual(known: &[u64]) -> Option<u64> {
    let mut sorted = known.to_vec();
    sorted.sort_unstable();
    sorted.get(known.len().checked_sub(1)? / 2).copied().filter(|_| known.len() >= ENOUGH)
}

fn is_short(usual: u64, got: u64) -> bool {
    usual >= LEAST_USUAL && got < usual.div_ceil(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(got: u64) -> Reading {
        Reading { resource: None, got }
    }

    /// What each of a schedule's runs in turn is judged, by what it brought.
    fn judged(volumes: &[u64]) -> Vec<bool> {
        let mut known = Volumes::default();
        volumes.iter().map(|got| known.note(&[whole(*got)]).is_some()).collect()
    }

    #[test]
    fn a_volume_is_short_below_half_of_the_median() {
        assert_eq!(judged(&[100, 100, 100, 100, 100, 49]), [false, false, false, false, false, true]);
        assert_eq!(judged(&[100, 100, 100, 100, 100, 50])[5..], [false]);
        assert_eq!(judged(&[90, 100, 110, 300, 95, 0])[5..], [true], "one large reading does not raise it");
        assert_eq!(judged(&[100, 100, 100, 100, 0]), [false; 5], "four are not enough to know");
        assert_eq!(judged(&[19, 19, 19, 19, 19, 0]), [false; 6], "too small to judge by");
        assert_eq!(judged(&[20, 20, 20, 20, 20, 0])[5..], [true]);
        assert_eq!(judged(&[0; 12]), [false; 12]);
    }

    #[test]
    fn what_stays_low_becomes_the_usual() {
        let mut volumes = vec![100; 9];
        volumes.extend([10; 8]);
        let judged = judged(&volumes);
        assert_eq!(judged.iter().filter(|short| **short).count(), 5, "{judged:?}");
        assert!(!judged[16], "told of five times, then taken as it is");
    }

    #[test]
    fn resources_are_judged_apart() {
        let reading = |name: &str, got| Reading { resource: Some(name.to_owned()), got };
        let mut known = Volumes::default();
        for _ in 0..5 {
            assert_eq!(known.note(&[reading("contacts", 400), reading("users", 40)]), None);
        }
        let users = known.note(&[reading("contacts", 390), reading("users", 3)]).unwrap();
        assert_eq!(users, ShortImport { resource: Some("users".into()), expected: 40, got: 3 });
        let worst = known.note(&[reading("users", 0), reading("contacts", 0)]).unwrap();
        assert_eq!((worst.resource.as_deref(), worst.expected), (Some("contacts"), 400));
        assert_eq!(known.note(&[reading("estimates", 0)]), None);
    }

    #[test]
    fn the_memory_is_bounded_and_survives_the_store() {
        let mut known = Volumes::default();
        for n in 0..500_u64 {
            known.note(&[whole(n), Reading { resource: Some(format!("r{n}")), got: n }]);
        }
        assert_eq!(known.0.len(), MOST_RESOURCES);
        assert_eq!(known.0[""], (491..500).collect::<Vec<_>>());
        assert_eq!(Volumes::parse(&known.text()), known);
        assert_eq!(Volumes::parse("damaged"), Volumes::default());
    }
}
