//! The queue against a model that looks at everything each time, and what it promises to small tenants.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn bid(tenant: &str, connector: Connector, credential: Option<u64>, urgency: Urgency, nominal: Millis) -> Bid {
    Bid { tenant: tenant.parse().unwrap(), connector, credential: credential.map(Credential), urgency, nominal }
}

fn noop(tenant: &str, nominal: Millis) -> Bid {
    bid(tenant, Connector::Noop, None, Urgency::Due, nominal)
}

fn limits(global: usize) -> Limits {
    Limits { global, per_tenant: None, per_credential: None, ..Limits::default() }
}

/// Starts all that may start.
fn start_all(fair: &mut Fair, now: Millis) -> Vec<Ticket> {
    std::iter::from_fn(|| fair.next(now)).collect()
}

/// The same rules, told by looking at every run each time.
#[derive(Default)]
struct Naive {
    waiting: BTreeMap<Ticket, Bid>,
    started: BTreeMap<Ticket, Bid>,
    turns: BTreeMap<Tenant, u64>,
    last_turn: u64,
}

impl Naive {
    fn turn(&mut self, tenant: &Tenant) {
        self.last_turn += 1;
        self.turns.insert(tenant.clone(), self.last_turn);
    }

    fn push(&mut self, ticket: Ticket, bid: Bid) {
        if !self.waiting.values().any(|waiting| waiting.tenant == bid.tenant) {
            self.turn(&bid.tenant);
        }
        self.waiting.insert(ticket, bid);
    }

    fn count(&self, like: impl Fn(&Bid) -> bool) -> usize {
        self.started.values().filter(|bid| like(bid)).count()
    }

    fn may_start(&self, bid: &Bid, limits: &Limits) -> bool {
        let of_connector = limits.per_connector.of.get(&bid.connector).copied().or(limits.per_connector.each);
        let below = |count: usize, most: Option<usize>| most.is_none_or(|most| count < most);
        self.started.len() < limits.global
            && below(self.count(|other| other.connector == bid.connector), of_connector)
            && below(self.count(|other| other.tenant == bid.tenant), limits.per_tenant)
            && (bid.credential.is_none()
                || below(self.count(|other| other.credential == bid.credential), limits.per_credential))
    }

    fn next(&mut self, limits: &Limits) -> Option<Ticket> {
        let may = self.waiting.iter().filter(|(_, bid)| self.may_start(bid, limits));
        let (ticket, _) =
            may.min_by_key(|(ticket, bid)| (self.turns[&bid.tenant], bid.urgency, bid.nominal, **ticket))?;
        let ticket = *ticket;
        let bid = self.waiting.remove(&ticket).unwrap();
        self.turn(&bid.tenant);
        self.started.insert(ticket, bid);
        Some(ticket)
    }

    fn leave(&mut self, ticket: Ticket) {
        self.waiting.remove(&ticket);
        self.started.remove(&ticket);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Push(Bid),
    /// Ends or withdraws one of those there are.
    Leave(prop::sample::Index),
    Start,
}

fn any_bid() -> impl Strategy<Value = Bid> {
    let urgency = prop_oneof![Just(Urgency::Asked), Just(Urgency::Due), Just(Urgency::Backfill)];
    let connector = prop::sample::select(Connector::ALL.to_vec());
    (0..5u8, connector, prop::option::of(0..3u64), urgency, 0..4i64).prop_map(
        |(tenant, connector, credential, urgency, nominal)| {
            bid(&format!("t{tenant}"), connector, credential, urgency, nominal)
        },
    )
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any_bid().prop_map(Step::Push),
        2 => any::<prop::sample::Index>().prop_map(Step::Leave),
        2 => Just(Step::Start),
    ]
}

fn any_limits() -> impl Strategy<Value = Limits> {
    let some = || prop::option::of(1..4usize);
    let of = prop::collection::btree_map(prop::sample::select(Connector::ALL.to_vec()), 1..4usize, 0..3);
    (1..8usize, some(), of, some(), some()).prop_map(|(global, each, of, per_tenant, per_credential)| Limits {
        global,
        per_connector: PerConnector { each, of },
        per_tenant,
        per_credential,
        ..Limits::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// The model checks each limit when it picks, and looks at all that waits: so equal picks mean that
    /// no limit is ever exceeded and that nothing waits while it may start.
    #[test]
    fn it_picks_as_one_would_who_looks_at_everything(
        limits in any_limits(),
        steps in prop::collection::vec(any_step(), 1..120),
    ) {
        let (mut fair, mut naive) = (Fair::new(limits.clone()), Naive::default());
        let mut there: Vec<Ticket> = Vec::new();
        for step in steps {
            match step {
                Step::Push(bid) => {
                    let ticket = fair.push(bid.clone());
                    naive.push(ticket, bid);
                    there.push(ticket);
                }
                Step::Leave(which) if !there.is_empty() => {
                    let ticket = there.swap_remove(which.index(there.len()));
                    fair.leave(ticket);
                    naive.leave(ticket);
                }
                Step::Leave(_) => {}
                Step::Start => prop_assert_eq!(fair.next(0), naive.next(&limits)),
            }
            prop_assert_eq!((fair.waiting(), fair.started()), (naive.waiting.len(), naive.started.len()));
            for (ticket, bid) in &naive.waiting {
                prop_assert_eq!(fair.waits_for(*ticket).is_none(), naive.may_start(bid, &limits), "{:?}", bid);
            }
        }
        // Nothing is lost: with everything that starts ending at once, everything starts.
        for ticket in naive.started.keys() {
            fair.leave(*ticket);
        }
        let mut left = naive.waiting.len();
        while let Some(ticket) = fair.next(0) {
            fair.leave(ticket);
            left -= 1;
        }
        prop_assert_eq!(left, 0);
        prop_assert!(fair.runs.is_empty() && fair.lines.is_empty() && fair.pools.is_empty() && fair.under.is_empty());
        prop_assert!(fair.gates.values().all(|gate| gate.started == 0 && gate.ready.is_empty()));
    }

    /// A tenant's first run waits for one start of each other tenant at most.
    #[test]
    fn a_small_tenant_waits_one_turn(queued in prop::collection::vec(1..40usize, 1..8), room in 1..4usize) {
        let mut fair = Fair::new(limits(room));
        for (tenant, count) in queued.iter().enumerate() {
            for n in 0..*count {
                fair.push(noop(&format!("big{tenant}"), i64::try_from(n).unwrap()));
            }
        }
        let mut going = start_all(&mut fair, 0);
        let small = fair.push(noop("small", 1_000_000));
        let mut before = 0;
        while let Some(ended) = going.pop() {
            fair.leave(ended);
            let started = start_all(&mut fair, 0);
            if started.contains(&small) {
                break;
            }
            before += started.len();
            going.extend(started);
        }
        prop_assert_eq!(fair.waits_for(small), None);
        prop_assert!(before <= queued.len(), "{} started before it", before);
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// In no second more than a second's and a burst's worth, and no fewer when there is enough to start.
    #[test]
    fn starts_keep_the_pace(rate in 1..2000u32, gap in 1..40i64) {
        let mut fair = Fair::new(Limits { starts: Some(StartsPerSec(f64::from(rate))), ..limits(1_000_000) });
        for n in 0..12_000 {
            fair.push(noop("t", n));
        }
        let mut starts: Vec<Millis> = Vec::new();
        let mut now = 0;
        while now <= 5000 {
            starts.extend(start_all(&mut fair, now).iter().map(|_| now));
            now += gap;
        }
        let rate = rate as usize;
        for from in (0..4000).step_by(250) {
            let within = starts.iter().filter(|at| (from..from + 1000).contains(*at)).count();
            prop_assert!(within <= rate + rate / 10 + 1, "{} in the second after {}", within, from);
        }
        prop_assert!(starts.len() + 1 >= (rate * 5).min(12_000) - rate * 5 / 50, "{} in 5 s", starts.len());
    }
}

#[test]
fn urgent_goes_first_and_then_the_oldest_within_a_tenants_turn() {
    let mut fair = Fair::new(limits(1));
    let connector = Connector::Noop;
    let of = |urgency, nominal| bid("a", connector, None, urgency, nominal);
    let backfill = fair.push(of(Urgency::Backfill, 1));
    let late = fair.push(of(Urgency::Due, 20));
    let early = fair.push(of(Urgency::Due, 10));
    let asked = fair.push(of(Urgency::Asked, 99));
    let other = fair.push(noop("b", 50));
    let mut order = Vec::new();
    while let Some(ticket) = fair.next(0) {
        order.push(ticket);
        fair.leave(ticket);
    }
    assert_eq!(order, [asked, other, early, late, backfill]);
}

#[test]
fn a_wait_names_the_narrowest_limit() {
    let per_connector = PerConnector { each: None, of: BTreeMap::from([(Connector::Acculynx, 2)]) };
    let mut fair =
        Fair::new(Limits { global: 4, per_connector, per_tenant: Some(1), per_credential: Some(1), ..limits(4) });
    let acculynx = |tenant, credential| bid(tenant, Connector::Acculynx, Some(credential), Urgency::Due, 0);
    let tickets: Vec<Ticket> = [
        acculynx("a", 1),
        acculynx("b", 2),
        acculynx("a", 3),
        acculynx("c", 1),
        acculynx("d", 4),
        noop("e", 0),
        noop("f", 0),
        noop("g", 0),
    ]
    .into_iter()
    .map(|bid| fair.push(bid))
    .collect();
    assert_eq!(start_all(&mut fair, 0).len(), 4);
    let waits: Vec<Option<Limit>> = tickets.iter().map(|ticket| fair.waits_for(*ticket)).collect();
    let (tenant, credential) = (Some(Limit::Tenant), Some(Limit::Credential));
    let (connector, global) = (Some(Limit::Connector), Some(Limit::Global));
    assert_eq!(waits, [None, None, tenant, credential, connector, None, None, global]);
    let all = [Limit::Tenant, Limit::Credential, Limit::Connector, Limit::Global];
    assert_eq!(fair.waiting_by_limit(), all.into_iter().map(|limit| (limit, 1)).collect());
}

#[test]
fn one_connectors_pace_holds_up_no_other() {
    let starts_of = BTreeMap::from([(Connector::Acculynx, StartsPerSec(2.0))]);
    let mut fair = Fair::new(Limits { starts_of, ..limits(100) });
    let held: Vec<Ticket> = (0..3).map(|n| fair.push(bid("a", Connector::Acculynx, None, Urgency::Due, n))).collect();
    let free = fair.push(noop("b", 9));
    assert_eq!(start_all(&mut fair, 10_000), [held[0], free]);
    assert_eq!((fair.waits_for(held[1]), fair.opens_at()), (Some(Limit::Rate), Some(10_400)));
    assert!(start_all(&mut fair, 10_399).is_empty());
    assert_eq!(start_all(&mut fair, 10_400), [held[1]]);
    // A clock that is set back by a day delays the next start by half a second, not by a day.
    assert!(start_all(&mut fair, 10_400 - 86_400_000).is_empty());
    assert_eq!(start_all(&mut fair, 10_900 - 86_400_000), [held[2]]);
}
