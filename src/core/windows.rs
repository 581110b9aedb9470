//! Maintenance windows: times in which no run starts, for the fleet, some connectors or some labels.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::core::model::{Connector, Millis};
use crate::core::timing::Rhythm;

/// The folder of the desired directory that holds them.
pub const FOLDER: &str = "windows";

/// The longest window, seconds: 31 days.
pub const MAX_DURATION_SEC: u32 = 2_678_400;

/// How many back-to-back occurrences are followed to find the end of a window.
const MAX_CHAIN: usize = 64;

/// A maintenance window, as its YAML file has it.
///
/// A value that came out of `core::desired` has its time zone filled in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Command Center maintenance window")]
pub struct WindowSpec {
    /// When it begins: a cron expression of five fields, by the rules of schedules.
    #[schemars(example = "0 2 * * 0", example = "30 22 1 * *")]
    pub cron: String,
    /// The IANA time zone in which `cron` is read; UTC when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = "America/Denver", example = &"UTC")]
    pub timezone: Option<String>,
    /// How long it lasts, in seconds: 1 to 2678400 (31 days).
    #[schemars(range(min = 1, max = 2_678_400), example = 3600, example = 7200)]
    pub duration_sec: u32,
    /// Only schedules of these connectors; all when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub connectors: Vec<Connector>,
    /// Only schedules that have all of these labels; all when left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Why, for the people who find runs waiting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 500), example = "AccuLynx maintenance, Sundays from 2 to 4")]
    pub reason: Option<String>,
    /// With `false`, the window is kept and has no effect.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub enabled: bool,
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
fn is_true(value: &bool) -> bool {
    *value
}

impl WindowSpec {
    /// Whether it concerns schedules of this connector with these labels.
    pub fn selects(&self, connector: Connector, labels: &BTreeMap<String, String>) -> bool {
        self.selects_connector(connector) && self.labels.iter().all(|(name, value)| labels.get(name) == Some(value))
    }

    fn selects_connector(&self, connector: Connector) -> bool {
        self.connectors.is_empty() || self.connectors.contains(&connector)
    }
}

/// One window by its name.
#[derive(Clone, Debug)]
pub struct Window {
    pub name: String,
    pub spec: WindowSpec,
    begins: Rhythm,
    duration_ms: Millis,
}

impl Window {
    /// `None` when its cron expression or time zone is none.
    pub fn new(name: &str, spec: WindowSpec) -> Option<Window> {
        let begins = Rhythm::cron(&spec.cron, spec.timezone.as_deref().unwrap_or("UTC")).ok()?;
        let duration_ms = Millis::from(spec.duration_sec) * 1000;
        Some(Window { name: name.to_owned(), spec, begins, duration_ms })
    }

    /// The stretch that `at` lies in, if it lies in one: from its begin up to and without its end.
    /// Occurrences that touch are one stretch.
    pub fn stretch_at(&self, at: Millis) -> Option<(Millis, Millis)> {
        let begin = self.begins.latest(at)?;
        (at < begin + self.duration_ms).then(|| (begin, self.end_of(begin)))
    }

    /// The first stretch that begins after `after`.
    pub fn next_after(&self, after: Millis) -> Option<(Millis, Millis)> {
        let begin = self.begins.next_after(after)?;
        Some((begin, self.end_of(begin)))
    }

    /// Whether its occurrences run into one another for as long as anybody looks.
    pub fn is_endless_from(&self, at: Millis) -> bool {
        let Some(mut begin) = self.begins.next_after(at) else { return false };
        for _ in 0..1000 {
            match self.begins.next_after(begin) {
                Some(next) if next <= begin + self.duration_ms => begin = next,
                _ => return false,
            }
        }
        true
    }

    fn end_of(&self, begin: Millis) -> Millis {
        let mut last = begin;
        for _ in 0..MAX_CHAIN {
            match self.begins.next_after(last) {
                Some(next) if next <= last + self.duration_ms => last = next,
                _ => break,
            }
        }
        last + self.duration_ms
    }
}

/// The windows that labels choose for a schedule, as indexes; those that choose by connector alone
/// go without saying.
pub type Chosen = Box<[u16]>;

/// Every window that has an effect, in order of names.
#[derive(Clone, Debug, Default)]
pub struct Windows {
    all: Vec<Window>,
}

/// A window that is open at some moment, and when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    pub window: u16,
    pub end: Millis,
}

impl Windows {
    pub fn new(windows: impl IntoIterator<Item = Window>) -> Windows {
        let mut all: Vec<Window> = windows.into_iter().filter(|window| window.spec.enabled).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all.truncate(usize::from(u16::MAX));
        Windows { all }
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub fn get(&self, window: u16) -> Option<&Window> {
        self.all.get(usize::from(window))
    }

    /// Whether labels have to be known to tell which windows concern a schedule.
    pub fn ask_for_labels(&self) -> bool {
        self.all.iter().any(|window| !window.spec.labels.is_empty())
    }

    /// What the labels of a schedule choose; empty where they choose nothing.
    pub fn chosen(&self, connector: Connector, labels: &BTreeMap<String, String>) -> Chosen {
        let chosen = |window: &Window| !window.spec.labels.is_empty() && window.spec.selects(connector, labels);
        (0u16..).zip(&self.all).filter(|(_, window)| chosen(window)).map(|(index, _)| index).collect()
    }

    /// What is open at `at`, for anyone.
    pub fn open_at(&self, at: Millis) -> Vec<Open> {
        let open = |(window, it): (u16, &Window)| it.stretch_at(at).map(|(_, end)| Open { window, end });
        (0u16..).zip(&self.all).filter_map(open).collect()
    }

    /// Of what is open, the window that keeps this schedule longest.
    pub fn longest(&self, open: &[Open], connector: Connector, chosen: &[u16]) -> Option<Open> {
        open.iter().copied().filter(|open| self.concerns(open.window, connector, chosen)).max_by_key(|open| open.end)
    }

    /// Until when a start that is due at `at` has to wait, and for which window; `None` when it need not.
    pub fn wait_at(&self, at: Millis, connector: Connector, chosen: &[u16]) -> Option<Open> {
        let mut wait: Option<Open> = None;
        // One window's end may lie in another.
        for _ in 0..MAX_CHAIN {
            let from = wait.map_or(at, |open| open.end);
            let of = |window: u16| {
                let (_, end) = self.get(window)?.stretch_at(from)?;
                Some(Open { window, end })
            };
            let next = (0u16..).take(self.all.len()).filter(|window| self.concerns(*window, connector, chosen));
            match next.filter_map(of).max_by_key(|open| open.end) {
                Some(open) => wait = Some(Open { window: wait.map_or(open.window, |first| first.window), ..open }),
                None => break,
            }
        }
        wait
    }

    /// What comes from `now` on, looked up once for many schedules.
    pub fn outlook(&self, now: Millis) -> Outlook<'_> {
        let begin = |window: &Window| match window.stretch_at(now).or_else(|| window.next_after(now)) {
            Some((begin, _)) => begin,
            None => Millis::MAX,
        };
        Outlook { windows: self, begins: self.all.iter().map(begin).collect() }
    }

    /// The stretches within `[from, until)` in which schedules of these windows do not start, in order.
    pub fn stretches(
        &self,
        from: Millis,
        until: Millis,
        connector: Connector,
        chosen: &[u16],
    ) -> Vec<(Millis, Millis)> {
        const MOST: usize = 100_000;
        let mut found: Vec<(Millis, Millis)> = Vec::new();
        for window in (0u16..).take(self.all.len()).filter(|window| self.concerns(*window, connector, chosen)) {
            let Some(window) = self.get(window) else { continue };
            let mut next = window.stretch_at(from).or_else(|| window.next_after(from));
            while let Some((begin, end)) = next.filter(|(begin, _)| *begin < until && found.len() < MOST) {
                found.push((begin, end));
                next = window.next_after(end - 1);
            }
        }
        found.sort_unstable();
        found
    }

    fn concerns(&self, window: u16, connector: Connector, chosen: &[u16]) -> bool {
        self.get(window).is_some_and(|it| {
            if it.spec.labels.is_empty() { it.spec.selects_connector(connector) } else { chosen.contains(&window) }
        })
    }
}

/// When each window is open next: most starts lie before all of them, which is soon told.
pub struct Outlook<'w> {
    windows: &'w Windows,
    begins: Vec<Millis>,
}

impl Outlook<'_> {
    /// As [`Windows::wait_at`], of a moment from `now` on.
    pub fn wait_at(&self, at: Millis, connector: Connector, chosen: &[u16]) -> Option<Open> {
        let mut begun = (0u16..).zip(&self.begins).filter(|(_, begin)| at >= **begin);
        let may_wait = begun.any(|(window, _)| self.windows.concerns(window, connector, chosen));
        may_wait.then(|| self.windows.wait_at(at, connector, chosen)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::timing::{iso, parse_time};

    const HOUR: u32 = 3600;

    fn window(name: &str, cron: &str, duration_sec: u32, change: impl FnOnce(&mut WindowSpec)) -> Window {
        let mut spec = WindowSpec {
            cron: cron.to_owned(),
            timezone: Some("America/Denver".to_owned()),
            duration_sec,
            connectors: Vec::new(),
            labels: BTreeMap::new(),
            reason: None,
            enabled: true,
        };
        change(&mut spec);
        Window::new(name, spec).unwrap()
    }

    fn at(text: &str) -> Millis {
        parse_time(text).unwrap()
    }

    #[test]
    fn a_window_lasts_from_its_begin_to_just_before_its_end() {
        let sunday = window("a", "0 2 * * 0", 2 * HOUR, |_| {});
        let begin = at("2026-11-22T09:00:00Z");
        let end = begin + 7_200_000;
        assert_eq!(sunday.stretch_at(begin), Some((begin, end)));
        assert_eq!(sunday.stretch_at(end - 1), Some((begin, end)));
        assert_eq!((sunday.stretch_at(begin - 1), sunday.stretch_at(end)), (None, None));
        assert_eq!(sunday.next_after(begin).map(|(begin, _)| iso(begin)).unwrap(), "2026-11-29T09:00:00.000Z");
    }

    #[test]
    fn occurrences_that_touch_are_one_and_endless_ones_are_told() {
        let night = window("a", "0 0-3 * * *", HOUR, |_| {});
        let (begin, end) = night.stretch_at(at("2026-11-22T08:30:00Z")).unwrap();
        assert_eq!((iso(begin), iso(end)), ("2026-11-22T08:00:00.000Z".into(), "2026-11-22T11:00:00.000Z".into()));
        assert!(!night.is_endless_from(0));
        let always = window("b", "*/5 * * * *", 300, |_| {});
        assert!(always.is_endless_from(0));
        assert!(always.stretch_at(at("2026-11-22T08:30:00Z")).is_some(), "and its end is looked for with an end");
    }

    #[test]
    fn connectors_and_labels_choose() {
        let west = |spec: &mut WindowSpec| drop(spec.labels.insert("region".into(), "west".into()));
        let windows = Windows::new([
            window("fleet", "0 2 * * *", HOUR, |_| {}),
            window("noop", "0 4 * * *", HOUR, |spec| spec.connectors = vec![Connector::Noop]),
            window("off", "0 0 * * *", HOUR, |spec| spec.enabled = false),
            window("west", "30 4 * * *", HOUR, west),
        ]);
        assert!(windows.ask_for_labels());
        let labels = BTreeMap::from([("region".to_owned(), "west".to_owned()), ("tier".to_owned(), "1".to_owned())]);
        let chosen = windows.chosen(Connector::Acculynx, &labels);
        assert_eq!(*chosen, [2]);
        assert!(windows.chosen(Connector::Acculynx, &BTreeMap::new()).is_empty());

        let wait = |time: &str, connector, chosen: &[u16]| {
            let wait = windows.wait_at(at(time), connector, chosen)?;
            Some((windows.get(wait.window)?.name.clone(), iso(wait.end)))
        };
        let until = |name: &str, end: &str| Some((name.to_owned(), end.to_owned()));
        assert_eq!(wait("2026-11-22T09:10:00Z", Connector::Acculynx, &[]), until("fleet", "2026-11-22T10:00:00.000Z"));
        assert_eq!(wait("2026-11-22T11:10:00Z", Connector::Acculynx, &[]), None);
        assert_eq!(
            wait("2026-11-22T11:40:00Z", Connector::Acculynx, &chosen),
            until("west", "2026-11-22T12:30:00.000Z")
        );
        assert_eq!(wait("2026-11-22T07:10:00Z", Connector::Noop, &[]), None, "switched off");
        // The end of one lies in the other.
        let both = wait("2026-11-22T11:10:00Z", Connector::Noop, &chosen);
        assert_eq!(both, until("noop", "2026-11-22T12:30:00.000Z"));

        let now = at("2026-11-22T11:10:00Z");
        let outlook = windows.outlook(now);
        for minutes in 0..3000 {
            let at = now + minutes * 60_000;
            for chosen in [&[][..], &chosen] {
                let expect = windows.wait_at(at, Connector::Noop, chosen);
                assert_eq!(outlook.wait_at(at, Connector::Noop, chosen), expect, "{}", iso(at));
            }
        }

        let open = windows.open_at(at("2026-11-22T11:40:00Z"));
        assert_eq!(open.len(), 2);
        let longest = windows.longest(&open, Connector::Noop, &chosen).unwrap();
        assert_eq!(iso(longest.end), "2026-11-22T12:30:00.000Z");
        assert_eq!(windows.longest(&open, Connector::Acculynx, &[]), None);
    }
}
