//! `make bench`: how fast and how small, each figure beside what this machine can do at best, so that
//! the ratios hold anywhere. Pass names (part of a row's title) to measure only those.

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures for people: counts and times far below any limit"
)]

mod support;

use support::Table;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let mut table = Table::new(wanted);
    support::floors::measure(&mut table);
    support::scan::measure(&mut table);
    support::recovery::measure(&mut table);
    support::plan::measure(&mut table);
    support::edit::measure(&mut table);
    support::git::measure(&mut table);
    support::fire::measure(&mut table);
    support::runs::measure(&mut table);
    support::api::measure(&mut table);
    support::audit::measure(&mut table);
    support::replication::measure(&mut table);
    table.print();
}
