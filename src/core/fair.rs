//! Who starts next: claimed runs that wait for room, the limits that keep them waiting, and the turns
//! that tenants take. Every step costs the logarithm of what waits, however much of it is held up by
//! a limit: what a limit stops is set aside as a whole and comes back as a whole.

mod credential;
mod limits;
mod pace;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};

pub use credential::Credential;
pub use limits::{Limit, Limits, PerConnector};
pub use pace::{Pace, StartsPerSec};

use crate::core::model::{Connector, Millis, Tenant};

/// A run's place, from the moment it lines up until it has ended.
pub type Ticket = u64;

/// What goes first within one tenant's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Somebody waits for it.
    Asked,
    /// Its time has come.
    Due,
    /// It makes up for the past.
    Backfill,
}

/// A run that asks to start.
#[derive(Clone, Debug)]
pub struct Bid {
    pub tenant: Tenant,
    pub connector: Connector,
    pub credential: Option<Credential>,
    pub urgency: Urgency,
    pub nominal: Millis,
}

/// Order within a lane: urgency, then the oldest, then who came first.
type Rank = (Urgency, Millis, Ticket);

/// Order over all: the tenant's turn, and within it the rank.
type Key = (u64, Rank);

/// Runs that share everything but the tenant: one connector and one credential, or none.
type PoolName = (Connector, Option<Credential>);

#[derive(Debug)]
struct Run {
    tenant: Tenant,
    pool: PoolName,
    rank: Rank,
    has_started: bool,
}

/// A tenant with runs that wait or go on.
#[derive(Debug, Default)]
struct Line {
    /// Smaller goes first. A new one is drawn when a run starts, and by whoever comes anew.
    turn: u64,
    started: usize,
    waiting: usize,
    /// One per connector as a rule, since a schedule has one connection.
    lanes: Vec<Lane>,
}

/// A tenant's runs in one pool.
#[derive(Debug)]
struct Lane {
    pool: PoolName,
    waiting: BTreeSet<Rank>,
    /// What its pool knows of it: nothing while the tenant has no room.
    shown: Option<Key>,
}

#[derive(Debug, Default)]
struct Pool {
    /// The first of every lane whose tenant has room.
    ready: BTreeSet<Key>,
    /// What its connector knows of it: nothing while the credential has no room.
    shown: Option<Key>,
}

#[derive(Debug, Default)]
struct Gate {
    started: usize,
    ready: BTreeSet<Key>,
    pace: Option<Pace>,
}

/// All that waits and all that has started.
#[derive(Debug)]
pub struct Fair {
    limits: Limits,
    runs: HashMap<Ticket, Run>,
    lines: HashMap<Tenant, Line>,
    /// Those in which somebody could start.
    pools: HashMap<PoolName, Pool>,
    /// Runs under way for each credential.
    under: HashMap<Credential, usize>,
    gates: BTreeMap<Connector, Gate>,
    pace: Option<Pace>,
    started: usize,
    last_turn: u64,
    last_ticket: Ticket,
}

impl Fair {
    pub fn new(limits: Limits) -> Self {
        let gate = |connector: Connector| Gate {
            pace: limits.starts_of.get(&connector).copied().map(Pace::new),
            ..Gate::default()
        };
        Fair {
            gates: Connector::ALL.into_iter().map(|connector| (connector, gate(connector))).collect(),
            pace: limits.starts.map(Pace::new),
            limits,
            runs: HashMap::new(),
            lines: HashMap::new(),
            pools: HashMap::new(),
            under: HashMap::new(),
            started: 0,
            last_turn: 0,
            last_ticket: 0,
        }
    }

    /// How many have started and not ended.
    pub fn started(&self) -> usize {
        self.started
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.runs.len() - self.started
    }

    /// Lines a run up. A tenant that had nothing waiting comes after all that wait already.
    pub fn push(&mut self, bid: Bid) -> Ticket {
        self.last_ticket += 1;
        let ticket = self.last_ticket;
        let (pool, rank) = ((bid.connector, bid.credential), (bid.urgency, bid.nominal, ticket));
        let line = self.lines.entry(bid.tenant.clone()).or_default();
        if line.waiting == 0 {
            self.last_turn += 1;
            line.turn = self.last_turn;
        }
        line.waiting += 1;
        match line.lanes.iter_mut().find(|lane| lane.pool == pool) {
            Some(lane) => {
                lane.waiting.insert(rank);
            }
            None => line.lanes.push(Lane { pool, waiting: BTreeSet::from([rank]), shown: None }),
        }
        self.show(&bid.tenant);
        self.runs.insert(ticket, Run { tenant: bid.tenant, pool, rank, has_started: false });
        ticket
    }

    /// The next run to start, which counts as started from now on; `None` when no limit lets one.
    pub fn next(&mut self, now: Millis) -> Option<Ticket> {
        if self.started >= self.limits.global || !self.pace.as_mut().is_none_or(|pace| pace.is_open(now)) {
            return None;
        }
        let limits = &self.limits;
        let open = self.gates.iter_mut().filter_map(|(connector, gate)| {
            let first = *gate.ready.first()?;
            let room = limits.room(Limit::Connector, Some(*connector), gate.started);
            (room && gate.pace.as_mut().is_none_or(|pace| pace.is_open(now))).then_some(first)
        });
        let (_, (_, _, ticket)) = open.min()?;
        self.start(ticket, now);
        Some(ticket)
    }

    /// When a run that only a pace keeps from starting may start.
    pub fn opens_at(&self) -> Option<Millis> {
        if self.started >= self.limits.global {
            return None;
        }
        let of = |pace: &Option<Pace>| pace.as_ref().map_or(Millis::MIN, Pace::opens_at);
        let waiting = self.gates.iter().filter(|(connector, gate)| {
            !gate.ready.is_empty() && self.limits.room(Limit::Connector, Some(**connector), gate.started)
        });
        waiting.map(|(_, gate)| of(&gate.pace)).min().map(|gate| gate.max(of(&self.pace)))
    }

    /// Gives a place up: the run has ended, or does not want to start any more.
    pub fn leave(&mut self, ticket: Ticket) {
        let Some(run) = self.runs.remove(&ticket) else { return };
        if run.has_started {
            self.count(&run, false);
        } else {
            self.take_out(&run);
        }
        self.show(&run.tenant);
        if self.lines.get(&run.tenant).is_some_and(|line| line.started == 0 && line.waiting == 0) {
            self.lines.remove(&run.tenant);
        }
    }

    /// What keeps a waiting run from starting: the narrowest limit that is reached.
    pub fn waits_for(&self, ticket: Ticket) -> Option<Limit> {
        let run = self.runs.get(&ticket).filter(|run| !run.has_started)?;
        self.reached(self.lines.get(&run.tenant)?, run.pool)
    }

    /// How many wait for each limit.
    pub fn waiting_by_limit(&self) -> BTreeMap<Limit, usize> {
        let mut counts = BTreeMap::new();
        for line in self.lines.values() {
            for lane in &line.lanes {
                if let Some(limit) = self.reached(line, lane.pool) {
                    *counts.entry(limit).or_default() += lane.waiting.len();
                }
            }
        }
        counts
    }

    fn reached(&self, line: &Line, (connector, credential): PoolName) -> Option<Limit> {
        let gate = self.gates.get(&connector)?;
        let is_paced = |pace: &Option<Pace>| pace.as_ref().is_some_and(Pace::was_shut);
        [
            (Limit::Tenant, !self.limits.room(Limit::Tenant, None, line.started)),
            (Limit::Credential, !self.credential_has_room(credential)),
            (Limit::Connector, !self.limits.room(Limit::Connector, Some(connector), gate.started)),
            (Limit::Global, self.started >= self.limits.global),
            (Limit::Rate, is_paced(&gate.pace) || is_paced(&self.pace)),
        ]
        .into_iter()
        .find_map(|(limit, is_reached)| is_reached.then_some(limit))
    }

    fn credential_has_room(&self, credential: Option<Credential>) -> bool {
        let under = credential.and_then(|credential| self.under.get(&credential));
        under.is_none_or(|started| self.limits.room(Limit::Credential, None, *started))
    }

    fn start(&mut self, ticket: Ticket, now: Millis) {
        let Some(mut run) = self.runs.remove(&ticket) else { return };
        self.take_out(&run);
        run.has_started = true;
        self.count(&run, true);
        self.last_turn += 1;
        if let Some(line) = self.lines.get_mut(&run.tenant) {
            line.turn = self.last_turn;
        }
        self.show(&run.tenant);
        let gate = self.gates.get_mut(&run.pool.0);
        for pace in [gate.and_then(|gate| gate.pace.as_mut()), self.pace.as_mut()].into_iter().flatten() {
            pace.take(now);
        }
        self.runs.insert(ticket, run);
    }

    /// Takes a waiting run out of its lane.
    fn take_out(&mut self, run: &Run) {
        let Some(line) = self.lines.get_mut(&run.tenant) else { return };
        line.waiting = line.waiting.saturating_sub(1);
        if let Some(lane) = line.lanes.iter_mut().find(|lane| lane.pool == run.pool) {
            lane.waiting.remove(&run.rank);
        }
    }

    /// Counts a run as started, or no longer so; a credential that fills or empties moves its pools.
    fn count(&mut self, run: &Run, up: bool) {
        let step = |count: &mut usize| *count = if up { *count + 1 } else { count.saturating_sub(1) };
        step(&mut self.started);
        if let Some(line) = self.lines.get_mut(&run.tenant) {
            step(&mut line.started);
        }
        if let Some(gate) = self.gates.get_mut(&run.pool.0) {
            step(&mut gate.started);
        }
        let Some(credential) = run.pool.1 else { return };
        let had_room = self.credential_has_room(Some(credential));
        let under = self.under.entry(credential).or_default();
        step(under);
        if *under == 0 {
            self.under.remove(&credential);
        }
        if had_room != self.credential_has_room(Some(credential)) {
            for connector in Connector::ALL {
                self.show_pool((connector, Some(credential)));
            }
        }
    }

    /// Shows the first of each of a tenant's lanes to its pool, or nothing while the tenant has no room.
    fn show(&mut self, tenant: &Tenant) {
        let Some(line) = self.lines.get_mut(tenant) else { return };
        let has_room = self.limits.room(Limit::Tenant, None, line.started);
        let mut moved = Vec::new();
        for lane in &mut line.lanes {
            let first = lane.waiting.first().filter(|_| has_room).map(|rank| (line.turn, *rank));
            if first == lane.shown {
                continue;
            }
            let pool = self.pools.entry(lane.pool).or_default();
            if let Some(old) = lane.shown {
                pool.ready.remove(&old);
            }
            pool.ready.extend(first);
            lane.shown = first;
            moved.push(lane.pool);
        }
        line.lanes.retain(|lane| !lane.waiting.is_empty());
        for pool in moved {
            self.show_pool(pool);
        }
    }

    /// Shows the first of a pool to its connector, or nothing while the credential has no room.
    fn show_pool(&mut self, name: PoolName) {
        let has_room = self.credential_has_room(name.1);
        let Some((pool, gate)) = self.pools.get_mut(&name).zip(self.gates.get_mut(&name.0)) else { return };
        let first = pool.ready.first().copied().filter(|_| has_room);
        if first != pool.shown {
            if let Some(old) = pool.shown {
                gate.ready.remove(&old);
            }
            gate.ready.extend(first);
            pool.shown = first;
        }
        if pool.ready.is_empty() {
            self.pools.remove(&name);
        }
    }
}
