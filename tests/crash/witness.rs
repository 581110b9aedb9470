//! What runs leave outside of the server: each import of a program writes down itself which slot it is for. So a
//! run that started without a claim, or twice for one slot, is seen although the store knows nothing of it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::common::{Options, Server};

const TENANTS: [&str; 3] = ["w0", "w1", "w2"];

pub struct Witness {
    folder: PathBuf,
    /// Lines that were checked, by tenant.
    checked: HashMap<&'static str, usize>,
    pub runs: usize,
}

impl Witness {
    /// Schedules whose program takes note of itself in `folder`.
    #[cfg(unix)]
    pub fn in_folder(folder: &Path, options: Options) -> (Witness, Options) {
        use std::os::unix::fs::PermissionsExt as _;
        let program = folder.join("import");
        let script = "#!/bin/sh\n\
            echo \"$COMMAND_CENTER_RUN_ID $COMMAND_CENTER_NOMINAL_TIME\" >> \"${0%/*}/$COMMAND_CENTER_TENANT\"\n\
            sleep 0.2\n\
            echo '{\"imported\": 1}'\n";
        std::fs::write(&program, script).expect("a script");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("its mode");
        let program = program.to_str().expect("a plain path").to_owned();
        let file = format!("interval_sec: 1\nconnection: {{ command: [{program:?}], protocol: stats }}\n");
        let options = TENANTS
            .iter()
            .fold(options, |options, tenant| options.file(&format!("schedules/exec/{tenant}.yaml"), &file));
        let options = options.env("COMMAND_CENTER_EXEC_ALLOW", &program);
        (Witness { folder: folder.to_owned(), checked: HashMap::new(), runs: 0 }, options)
    }

    #[cfg(not(unix))]
    pub fn in_folder(folder: &Path, options: Options) -> (Witness, Options) {
        (Witness { folder: folder.to_owned(), checked: HashMap::new(), runs: 0 }, options)
    }

    /// Every import that began was claimed before, and no slot had two.
    pub fn check(&mut self, server: &Server) {
        let sql = server.sql();
        for tenant in TENANTS {
            let seen = std::fs::read_to_string(self.folder.join(tenant)).unwrap_or_default();
            let lines: Vec<&str> = seen.lines().collect();
            let checked = self.checked.insert(tenant, lines.len()).unwrap_or(0);
            for line in &lines[checked..] {
                let (run, nominal) = line.split_once(' ').expect("a run and its slot");
                let times = lines.iter().filter(|other| other.ends_with(nominal)).count();
                assert_eq!(times, 1, "{tenant}: slot {nominal} was imported {times} times");
                let claimed: Option<String> = sql
                    .query_row(
                        "SELECT trigger FROM runs WHERE id = ?1 AND schedule = 'exec/' || ?2",
                        [run, tenant],
                        |row| row.get(0),
                    )
                    .ok();
                // Nobody asked for a repetition of what was cut off, and what it had done nobody knows.
                let is_asked = matches!(claimed.as_deref(), Some("schedule" | "catch-up"));
                assert!(is_asked, "{tenant}: run {run} of slot {nominal} began as {claimed:?}");
                self.runs += 1;
            }
        }
    }
}
