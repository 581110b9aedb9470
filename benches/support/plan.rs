//! What a diff costs: a directory of 100,000 files planned against the running fleet, with one of
//! them changed and with all of them, nothing applied.

use super::{Fleet, Table, ms, open, runtime, six_lines, timed};

const COUNT: usize = 100_000;

pub fn measure(table: &mut Table) {
    if !table.wants("plan of 100,000") {
        return;
    }
    let fleet = Fleet::new(COUNT, six_lines);
    let runtime = runtime();
    let app = open(&fleet);
    runtime.block_on(app.bring_up()).expect("a start");
    let floor = table.floor_sec_per_file * COUNT as f64;
    let plan = |changed: usize| {
        for n in 0..changed {
            std::fs::write(fleet.file(n), six_lines(n).replace("region: r", "region: s")).expect("a changed file");
        }
        let (answer, took) = timed(|| runtime.block_on(app.diff(None)).expect("a diff"));
        assert_eq!(answer.changes.len(), changed);
        took
    };
    for (changed, what) in [(1, "1 changed"), (COUNT, "all changed")] {
        let took = plan(changed);
        let beside = format!("{:.2} x (read + parse + one bulk insert)", took.as_secs_f64() / floor);
        table.row(&format!("plan of 100,000 with {what}"), ms(took), beside, "");
    }
    app.store.close();
}
