//! Programs from PyPI, each installed once and kept with what the tests build.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The folder of the programs of `package` (with the extras wanted) at `version`. `patience` is for making the
/// environment and installing together.
pub fn installed(package: &str, version: &str, patience: Duration) -> Result<PathBuf, String> {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{package}-{version}"));
    let (bin, done) = (home.join("bin"), home.join("installed"));
    if done.exists() {
        return Ok(bin);
    }
    let _ = std::fs::remove_dir_all(&home);
    let until = Instant::now() + patience;
    run(Command::new("python3").args(["-m", "venv"]).arg(&home), until)?;
    let options = ["install", "--quiet", "--disable-pip-version-check", "--retries", "1", "--timeout", "15"];
    run(Command::new(bin.join("pip")).args(options).arg(format!("{package}=={version}")), until)?;
    std::fs::write(done, "").map_err(|error| error.to_string())?;
    Ok(bin)
}

fn run(command: &mut Command, until: Instant) -> Result<(), String> {
    let shown = format!("{command:?}");
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = quiet.spawn().map_err(|error| format!("{shown}: {error}"))?;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(format!("{shown}: {status}")),
            Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(50)),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("{shown}: not done in time"));
            }
        }
    }
}
