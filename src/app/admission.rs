//! Lets runs start: each asks to enter, waits for its turn and for room, and gives its place back when
//! its permit is dropped. `core::fair` decides; here are the doors behind which the runs wait.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::App;
use super::blocking::rest;
use crate::adapters::clock::Clock;
use crate::adapters::connectors::Secret;
use crate::core::fair::{Bid, Credential, Fair, Limit, Limits, Ticket, Urgency};
use crate::core::model::{Connector, Millis, ScheduleId};
use crate::core::run::Trigger;

/// The longest sleep, so that a step of the clock is noticed within a second.
const NAP: Duration = Duration::from_secs(1);

/// Who may start, and who waits.
pub(super) struct Admission {
    hall: Mutex<Hall>,
    clock: Clock,
}

struct Hall {
    fair: Fair,
    doors: HashMap<Ticket, Door>,
    /// Tickets of a schedule's runs that wait, in the order in which they start.
    waiting: HashMap<ScheduleId, BTreeSet<(Urgency, Millis, Ticket)>>,
    /// A task sleeps until the pace lets the next one start.
    is_paced: bool,
    is_closed: bool,
}

struct Door {
    id: ScheduleId,
    urgency: Urgency,
    nominal: Millis,
    opens: oneshot::Sender<()>,
}

/// A place among the runs that go on, or wait to; given back when dropped.
pub(super) struct Permit {
    ticket: Ticket,
    admission: Arc<Admission>,
}

/// A schedule's run that waits to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    /// What the first of them waits for.
    pub limit: Limit,
    /// The oldest slot that waits because its time has come, and not because somebody asked for it.
    pub due: Option<Millis>,
    pub runs: usize,
}

impl Admission {
    pub(super) fn new(limits: Limits, clock: Clock) -> Arc<Self> {
        let hall = Hall {
            fair: Fair::new(limits),
            doors: HashMap::new(),
            waiting: HashMap::new(),
            is_paced: false,
            is_closed: false,
        };
        Arc::new(Admission { hall: Mutex::new(hall), clock })
    }

    fn hall(&self) -> MutexGuard<'_, Hall> {
        self.hall.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the run may start; `None` when it is cancelled before, or nothing starts any more.
    pub(super) async fn enter(
        self: &Arc<Self>,
        id: &ScheduleId,
        bid: Bid,
        cancel: &CancellationToken,
    ) -> Option<Permit> {
        let (opens, door) = oneshot::channel();
        let permit = {
            let mut hall = self.hall();
            if hall.is_closed {
                return None;
            }
            let (urgency, nominal) = (bid.urgency, bid.nominal);
            let ticket = hall.fair.push(bid);
            hall.waiting.entry(id.clone()).or_default().insert((urgency, nominal, ticket));
            hall.doors.insert(ticket, Door { id: id.clone(), urgency, nominal, opens });
            self.open_doors(&mut hall);
            // From here on the place is given back whatever becomes of the waiting.
            Permit { ticket, admission: self.clone() }
        };
        tokio::select! {
            biased;
            opened = door => opened.ok().map(|()| permit),
            () = cancel.cancelled() => None,
        }
    }

    /// Lets all start that may.
    fn open_doors(self: &Arc<Self>, hall: &mut Hall) {
        let now = self.clock.now();
        while let Some(ticket) = hall.fair.next(now) {
            if let Some(door) = hall.take_door(ticket) {
                // Nobody behind it any more: its permit is about to be dropped.
                let _ = door.opens.send(());
            }
        }
        let Some(opens_at) = hall.fair.opens_at().filter(|_| !hall.is_paced) else { return };
        if let Ok(runtime) = Handle::try_current() {
            hall.is_paced = true;
            let (admission, nap) = (self.clone(), self.clock.until(opens_at).min(NAP));
            runtime.spawn(async move {
                rest(nap).await;
                let mut hall = admission.hall();
                hall.is_paced = false;
                admission.open_doors(&mut hall);
            });
        }
    }

    /// Lets nobody start any more; who waits is sent away.
    pub(super) fn close(&self) {
        let mut hall = self.hall();
        hall.is_closed = true;
        hall.doors.clear();
        hall.waiting.clear();
    }

    /// How many go on and how many wait.
    #[cfg(test)]
    fn count(&self) -> (usize, usize) {
        let hall = self.hall();
        (hall.fair.started(), hall.fair.waiting())
    }

    /// How many wait for each limit.
    pub(super) fn waiting_by_limit(&self) -> BTreeMap<Limit, usize> {
        self.hall().fair.waiting_by_limit()
    }

    /// What a schedule's run waits for, if one waits.
    pub(super) fn wait_of(&self, id: &ScheduleId) -> Option<Wait> {
        let hall = self.hall();
        hall.wait(hall.waiting.get(id)?)
    }

    /// What each schedule's run waits for, where one waits.
    pub(super) fn waits(&self) -> HashMap<ScheduleId, Wait> {
        let hall = self.hall();
        hall.waiting.iter().filter_map(|(id, tickets)| Some((id.clone(), hall.wait(tickets)?))).collect()
    }
}

impl App {
    /// Waits until a run of the schedule may start; `None` when it is cancelled before, or the program stops.
    pub(super) async fn admit(
        &self,
        id: &ScheduleId,
        trigger: Trigger,
        nominal: Millis,
        credential: Option<Credential>,
        cancel: &CancellationToken,
    ) -> Option<Permit> {
        let urgency = match trigger {
            Trigger::RunNow => Urgency::Asked,
            Trigger::Schedule | Trigger::CatchUp | Trigger::Retry | Trigger::Webhook => Urgency::Due,
            Trigger::Backfill => Urgency::Backfill,
        };
        let (tenant, connector) = (id.tenant.clone(), id.connector);
        let lined_up = Instant::now();
        let permit = self.admission.enter(id, Bid { tenant, connector, credential, urgency, nominal }, cancel).await;
        self.metrics.start_wait(lined_up.elapsed().as_secs_f64());
        permit
    }

    /// The credential that a schedule's run will use, as its row stands; found out however often it takes,
    /// since without it a limit would not hold. An outer `None` is as for `admit`.
    pub(super) async fn credential_of(
        &self,
        id: &ScheduleId,
        cancel: &CancellationToken,
    ) -> Option<Option<Credential>> {
        if id.connector == Connector::Noop {
            return Some(None);
        }
        let mut told = false;
        let row = loop {
            match self.store.schedule(id.clone()).await {
                Ok(row) => break row,
                Err(_) if told => {}
                Err(error) => {
                    told = true;
                    tracing::warn!(component = "acculynx-scheduler", tenant_id = %id.tenant, %error,
                        "could not read whose limits a run counts against; trying until it works");
                }
            }
            tokio::select! {
                biased;
                () = cancel.cancelled() => return None,
                () = self.shutdown.cancelled() => return None,
                () = rest(NAP) => {}
            }
        };
        // Without a row, or with a damaged one, the run itself fails, with the reason.
        let Some(spec) = row.and_then(|row| row.spec.spec()) else { return Some(None) };
        let defaults = &self.settings.acculynx;
        let is_acculynx = id.connector == Connector::Acculynx;
        let own = defaults.api_key.as_ref().filter(|_| is_acculynx);
        let own = own.map(|Secret(key)| key.replace("{tenant}", id.tenant.as_str()));
        let address = defaults.base_url.as_deref().filter(|_| is_acculynx);
        Some(Credential::of(spec.connection.as_ref(), own.as_deref(), address))
    }
}

impl Hall {
    fn wait(&self, tickets: &BTreeSet<(Urgency, Millis, Ticket)>) -> Option<Wait> {
        let (_, _, first) = *tickets.first()?;
        let due = tickets.range((Urgency::Due, Millis::MIN, 0)..(Urgency::Backfill, Millis::MIN, 0)).next();
        // One that is about to start waits for its turn among all.
        let limit = self.fair.waits_for(first).unwrap_or(Limit::Global);
        Some(Wait { limit, due: due.map(|(_, nominal, _)| *nominal), runs: tickets.len() })
    }

    fn take_door(&mut self, ticket: Ticket) -> Option<Door> {
        let door = self.doors.remove(&ticket)?;
        if let Some(tickets) = self.waiting.get_mut(&door.id) {
            tickets.remove(&(door.urgency, door.nominal, ticket));
            if tickets.is_empty() {
                self.waiting.remove(&door.id);
            }
        }
        Some(door)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut hall = self.admission.hall();
        hall.take_door(self.ticket);
        hall.fair.leave(self.ticket);
        self.admission.open_doors(&mut hall);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::fair::StartsPerSec;

    const NOW: Millis = 1_800_000_000_000;

    fn admission(limits: Limits) -> (Arc<Admission>, Clock) {
        let clock = Clock::manual(NOW);
        (Admission::new(limits, clock.clone()), clock)
    }

    fn bid(id: &ScheduleId, nominal: Millis, credential: Option<u64>) -> Bid {
        let (tenant, connector) = (id.tenant.clone(), id.connector);
        Bid { tenant, connector, credential: credential.map(Credential), urgency: Urgency::Due, nominal }
    }

    fn id(name: &str) -> ScheduleId {
        ScheduleId::new(Connector::Noop, name.parse().unwrap())
    }

    #[tokio::test]
    async fn a_place_given_back_lets_the_next_one_in() {
        let (admission, _clock) = admission(Limits { global: 1, ..Limits::default() });
        let never = CancellationToken::new();
        let (a, b) = (id("a"), id("b"));
        let first = admission.enter(&a, bid(&a, 1, None), &never).await.unwrap();
        let mut second = Box::pin(admission.enter(&b, bid(&b, 2, None), &never));
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        assert_eq!(admission.wait_of(&b), Some(Wait { limit: Limit::Global, due: Some(2), runs: 1 }));
        assert_eq!((admission.wait_of(&a), admission.count()), (None, (1, 1)));
        drop(first);
        let second = second.await.unwrap();
        assert_eq!((admission.wait_of(&b), admission.count()), (None, (1, 0)));
        drop(second);
        assert_eq!(admission.count(), (0, 0));
    }

    #[tokio::test]
    async fn who_goes_away_gives_its_place_up() {
        let (admission, _clock) = admission(Limits { global: 1, ..Limits::default() });
        let (a, b, c, d) = (id("a"), id("b"), id("c"), id("d"));
        let (never, soon) = (CancellationToken::new(), CancellationToken::new());
        let first = admission.enter(&a, bid(&a, 1, None), &never).await.unwrap();
        let mut cancelled = Box::pin(admission.enter(&b, bid(&b, 1, None), &soon));
        let mut dropped = Box::pin(admission.enter(&c, bid(&c, 1, None), &never));
        let mut last = Box::pin(admission.enter(&d, bid(&d, 1, None), &never));
        for waiting in [&mut cancelled, &mut dropped, &mut last] {
            assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        }
        soon.cancel();
        assert!(cancelled.await.is_none());
        // Let in, and dropped before it noticed.
        drop(first);
        drop(dropped);
        let last = last.await.unwrap();
        admission.close();
        assert!(admission.enter(&a, bid(&a, 1, None), &never).await.is_none());
        drop(last);
        assert_eq!((admission.count(), admission.hall().waiting.len()), ((0, 0), 0));
    }

    #[tokio::test]
    async fn closing_sends_away_who_waits() {
        let (admission, _clock) = admission(Limits { per_credential: Some(1), ..Limits::default() });
        let (a, b) = (id("a"), id("b"));
        let never = CancellationToken::new();
        let first = admission.enter(&a, bid(&a, 1, Some(7)), &never).await;
        let mut second = Box::pin(admission.enter(&b, bid(&b, 1, Some(7)), &never));
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        assert_eq!(admission.waiting_by_limit(), BTreeMap::from([(Limit::Credential, 1)]));
        admission.close();
        assert!(second.await.is_none());
        drop(first);
        assert_eq!(admission.count(), (0, 0));
    }

    #[tokio::test]
    async fn the_pace_opens_the_door_when_the_clock_says_so() {
        let (admission, clock) = admission(Limits { starts: Some(StartsPerSec(5.0)), ..Limits::default() });
        let (a, b) = (id("a"), id("b"));
        let never = CancellationToken::new();
        let _first = admission.enter(&a, bid(&a, 1, None), &never).await.unwrap();
        let second = admission.enter(&b, bid(&b, 1, None), &never);
        let mover = async {
            assert_eq!(admission.wait_of(&b), Some(Wait { limit: Limit::Rate, due: Some(1), runs: 1 }));
            clock.advance(100);
        };
        // The clock stands still otherwise: without the move the door would stay shut for ever.
        let (second, ()) = tokio::join!(second, mover);
        assert!(second.is_some());
    }
}
