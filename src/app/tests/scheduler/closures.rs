//! Maintenance windows as the simulated scheduler's model has them: read anew from what is stored.

use std::collections::BTreeMap;

use crate::core::desired::{parse_window, window_name};
use crate::core::model::{Connector, Millis};
use crate::core::timing::Rhythm;

struct Closure {
    begins: Rhythm,
    duration_ms: Millis,
    connectors: Vec<Connector>,
    labels: BTreeMap<String, String>,
}

/// The windows of one version of their files.
#[derive(Default)]
pub(super) struct Closures {
    files: BTreeMap<String, Vec<u8>>,
    all: Vec<Closure>,
}

impl Closures {
    /// `None` when the files are those known.
    pub fn renewed(&self, defaults: &BTreeMap<String, Vec<u8>>) -> Option<Closures> {
        let is_window = |path: &String| window_name(path).is_some();
        let now = || defaults.iter().filter(|(path, _)| is_window(path));
        if now().eq(self.files.iter()) {
            return None;
        }
        let files: BTreeMap<String, Vec<u8>> = now().map(|(path, text)| (path.clone(), text.clone())).collect();
        let all = files.iter().map(|(path, text)| {
            let spec = parse_window(window_name(path).unwrap(), text).spec.unwrap();
            Closure {
                begins: Rhythm::cron(&spec.cron, "UTC").unwrap(),
                duration_ms: Millis::from(spec.duration_sec) * 1000,
                connectors: spec.connectors,
                labels: spec.labels,
            }
        });
        Some(Closures { all: all.collect(), files })
    }

    /// Whether one of them keeps such a schedule from starting at `at`.
    pub fn hold(&self, at: Millis, connector: Connector, labels: &BTreeMap<String, String>) -> bool {
        self.all.iter().any(|closure| {
            let is_ours = closure.connectors.is_empty() || closure.connectors.contains(&connector);
            let has_labels = closure.labels.iter().all(|(name, value)| labels.get(name) == Some(value));
            let begin = closure.begins.next_after(at - closure.duration_ms);
            is_ours && has_labels && begin.is_some_and(|begin| begin <= at)
        })
    }
}
