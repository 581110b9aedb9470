//! A real Singer tap from PyPI, pulling from the practice AccuLynx through the real binary, as the example
//! in `examples/singer` has it. The tap is installed once; where that cannot be done the test fails and says why,
//! unless it is left out by SINGER_TAP=off.

mod common;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use common::pypi::installed;
use common::{Options, Server, at, bare_command, eventually, free_addr, hold, text};
use serde_json::Value;

const TAP: &str = "tap-rest-api-msdk";
const VERSION: &str = "1.4.2";
const JOBS: usize = 60;
const KEY: &str = "sandbox-peakpro";
const BASE: &str = "/api/crm/import/exec";
/// How long making the environment and installing the tap may take.
const INSTALL: Duration = Duration::from_secs(110);

/// The practice AccuLynx as a program of its own.
struct Practice {
    child: Child,
    addr: SocketAddr,
}

impl Practice {
    async fn start() -> Practice {
        let addr = free_addr();
        let mut command = bare_command(Path::new(env!("CARGO_TARGET_TMPDIR")));
        command.args(["sandbox", "--addr", &addr.to_string(), "--jobs", &JOBS.to_string(), "--seed", "7"]);
        let child = command.stdout(Stdio::null()).spawn().expect("the binary starts");
        let practice = Practice { child, addr };
        eventually("the practice server answers", async || {
            let answer = practice.page("", 0).await;
            hold(answer["items"].is_array(), &answer)
        })
        .await;
        practice
    }

    async fn page(&self, assignment: &str, start: usize) -> Value {
        let url = format!(
            "http://{}/api/v2/jobs?pageSize=25&recordStartIndex={start}&sortBy=CreatedDate&sortOrder=Ascending{assignment}",
            self.addr
        );
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let Ok(answer) = client.get(url).bearer_auth(KEY).send().await else { return Value::Null };
        answer.json().await.unwrap_or_default()
    }

    /// The ids of every job there is, as `stream/id`.
    async fn ids(&self) -> BTreeSet<String> {
        let mut ids = BTreeSet::new();
        for (stream, assignment) in [("jobs", ""), ("unassigned_jobs", "&assignment=unassigned")] {
            for start in (0..JOBS).step_by(25) {
                let page = self.page(assignment, start).await;
                let items = page["items"].as_array().cloned().unwrap_or_default();
                ids.extend(items.iter().map(|item| format!("{stream}/{}", text(item, "/id"))));
            }
        }
        ids
    }
}

impl Drop for Practice {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn stored(server: &Server) -> BTreeSet<String> {
    let sql = server.sql();
    let mut rows = sql.prepare("SELECT resource || '/' || key FROM records WHERE connector = 'exec'").expect("a query");
    let ids = rows.query_map([], |row| row.get(0)).expect("rows");
    ids.collect::<Result<_, _>>().expect("texts")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tap_from_pypi_imports_every_job_and_gets_its_state_back() {
    if std::env::var("SINGER_TAP").is_ok_and(|wanted| wanted == "off") {
        return eprintln!("left out, as SINGER_TAP=off asks for");
    }
    let bin = installed(TAP, VERSION, INSTALL).unwrap_or_else(|reason| {
        panic!(
            "the Singer tap {TAP} could not be installed: {reason}\n\
             It takes python3 with venv, and PyPI or an index that pip knows. SINGER_TAP=off leaves this test out."
        )
    });
    let practice = Practice::start().await;
    let example = include_str!("../examples/singer/schedules/exec/peakpro.yaml");
    let program = bin.join(TAP).to_str().expect("a plain path").to_owned();
    let file = example
        .replace("127.0.0.1:8900", &practice.addr.to_string())
        .replace(&format!("/tmp/taps/bin/{TAP}]"), &format!("{program:?}]"));
    let options = Options::default().file("schedules/exec/peakpro.yaml", &file);
    let server = options.env("COMMAND_CENTER_EXEC_ALLOW", &program).env("CC_SECRET_PEAKPRO", KEY).start().await;

    let there = practice.ids().await;
    assert!(there.len() >= JOBS, "{}", there.len());
    let run = || server.post(&format!("{BASE}/run-now?wait=60")).ops().tenant("peakpro").send();
    let first = run().await.expect(200);
    assert_eq!(at(&first, "/ok"), true, "{first}");
    let stats = at(&first, "/result/stats");
    let missing: Vec<_> = there.difference(&stored(&server)).cloned().collect();
    assert!(missing.is_empty(), "{stats}: {missing:?}");
    assert_eq!(stats["imported"].as_u64(), Some(stored(&server).len() as u64), "{first}");

    let state = || -> String {
        let query = "SELECT bookmark FROM bookmarks WHERE connector = 'exec' AND resource = 'singer-state'";
        server.sql().query_row(query, [], |row| row.get(0)).expect("a state")
    };
    let state: Value = serde_json::from_str(&state()).expect("JSON");
    assert!(text(&state, "/state/bookmarks/jobs/replication_key_value").starts_with("20"), "{state}");
    let second = run().await.expect(200);
    assert_eq!(at(&second, "/ok"), true, "{second}");
    assert!(at(&second, "/result/stats/skipped").as_u64() > Some(0), "{second}");

    let log: String = server
        .sql()
        .query_row("SELECT log FROM runs ORDER BY id DESC LIMIT 1", [], |row| row.get(0))
        .expect("the run has a log");
    assert!(log.contains("singer_sdk") && !log.contains(KEY), "{log}");
    let left = std::fs::read_dir(server.path("data/command_center.db.exec")).expect("the runs' folder").count();
    assert_eq!(left, 0, "a run's directory stayed");
}
