//! The API of the real program: durable mutations by one and by many clients, and the status of a
//! large fleet.

use std::time::{Duration, Instant};

use super::{Fleet, Server, Table, ms, runtime, six_lines, timed};

pub fn measure(table: &mut Table) {
    if table.wants("pause and resume") {
        let fleet = Fleet::new(1000, six_lines);
        let server = Server::start(&fleet);
        let runtime = runtime();
        for (clients, goal) in [(1, "2,000/s"), (32, "6,000/s")] {
            let rate = runtime.block_on(toggle(&server.url, clients));
            let title = format!("durable pause and resume over HTTP, {clients} client(s)");
            table.row(&title, format!("{rate:.0}/s"), String::new(), goal);
        }
    }
    if table.wants("status") {
        let fleet = Fleet::new(100_000, six_lines);
        let server = Server::start(&fleet);
        let runtime = runtime();
        runtime.block_on(status(table, &server.url));
    }
}

async fn toggle(url: &str, clients: usize) -> f64 {
    const TIME: Duration = Duration::from_secs(4);
    let start = Instant::now();
    let tasks: Vec<_> = (0..clients)
        .map(|client| {
            let url = url.to_owned();
            tokio::spawn(async move {
                let http = reqwest::Client::new();
                let mut done = 0u32;
                while start.elapsed() < TIME {
                    let tenant = format!("tenant-{:06}", client * 31 + (done as usize / 2) % 31);
                    let verb = if done.is_multiple_of(2) { "pause" } else { "resume" };
                    let request = http
                        .post(format!("{url}/api/crm/import/noop/{verb}"))
                        .header("x-ops", "1")
                        .header("x-tenant", tenant);
                    let answer = request.send().await.expect("an answer");
                    assert_eq!(answer.status(), 200);
                    answer.bytes().await.expect("a body");
                    done += 1;
                }
                done
            })
        })
        .collect();
    let mut total = 0;
    for task in tasks {
        total += task.await.expect("a client");
    }
    f64::from(total) / start.elapsed().as_secs_f64()
}

async fn status(table: &mut Table, url: &str) {
    let http = reqwest::Client::builder().no_gzip().build().expect("a client");
    let get = |query: &'static str| {
        let request = http.get(format!("{url}/api/crm/import/noop/schedule/status{query}"));
        async move { request.send().await.expect("an answer").bytes().await.expect("a body").len() }
    };
    get("?tenant=tenant-000001").await;
    let mut whole = Vec::new();
    let mut bytes = 0;
    for _ in 0..5 {
        let start = Instant::now();
        bytes = get("").await;
        whole.push(start.elapsed());
    }
    whole.sort();
    let beside = format!("{:.1} MB, median of 5", bytes as f64 / 1e6);
    table.row("status of 100,000 tenants, uncompressed, streamed", ms(whole[2]), beside, "0.3 s");
    let mut single = Vec::new();
    for _ in 0..200 {
        let start = Instant::now();
        get("?tenant=tenant-050000").await;
        single.push(start.elapsed());
    }
    single.sort();
    let ((), _) = timed(|| ());
    table.row("status of one among 100,000", ms(single[100]), "median of 200".to_owned(), "1 ms");
}
