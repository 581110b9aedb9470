//! What is said of minutes that a change would make much busier than others.

use std::collections::BTreeMap;

use super::{Jump, Load, MINUTE, jumps};
use crate::core::timing::iso;

/// Groups of minutes that are told of; a change that makes more is told of all the same.
const MOST: usize = 3;

/// One sentence for each minute of the hour that jumps, the highest first.
pub fn warnings(before: &Load, after: &Load) -> Vec<String> {
    let mut by_minute: BTreeMap<i64, Vec<Jump>> = BTreeMap::new();
    for jump in jumps(before, after) {
        by_minute.entry(jump.minute.div_euclid(MINUTE).rem_euclid(60)).or_default().push(jump);
    }
    let mut groups: Vec<(i64, Vec<Jump>)> = by_minute.into_iter().collect();
    groups.sort_by_key(|(_, jumps)| std::cmp::Reverse(jumps.first().map_or(0, |jump| jump.after)));
    let more = groups.len().saturating_sub(MOST);
    let median = after.median();
    let told = groups.iter().take(MOST).filter_map(|(minute, jumps)| {
        let highest = jumps.first()?;
        let on = match jumps.len() {
            1 => shown(highest.minute),
            hours => format!(":{minute:02} of {hours} hours, the most at {}", shown(highest.minute)),
        };
        let (most, before) = (highest.after, highest.before);
        Some(format!(
            "this change puts {most} fires on {on} (before: {before}; the median minute: {median}); jitter_sec spreads them"
        ))
    });
    let mut told: Vec<String> = told.collect();
    if more > 0 {
        told.push(format!("{more} more minutes of the hour jump like these; see `command-center forecast`"));
    }
    told
}

/// `2026-11-21 03:00 UTC`
fn shown(minute: i64) -> String {
    let text = iso(minute);
    format!("{} {} UTC", text.get(..10).unwrap_or_default(), text.get(11..16).unwrap_or_default())
}
