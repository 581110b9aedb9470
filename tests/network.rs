//! A database on another machine's file system is refused by the running binary: a mount that calls itself sshfs and
//! is answered by the test. Where no file system can be mounted, the test says so and passes.
#![cfg(target_os = "linux")]

mod common;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use common::{Options, Server};

/// A mounted file system with one empty folder; goes when dropped.
struct Share(tempfile::TempDir);

impl Share {
    /// `None` where this user may not mount.
    fn of_kind(kind: &str) -> Option<Share> {
        let folder = tempfile::tempdir().expect("a folder");
        let mounted = File::options().read(true).write(true).open("/dev/fuse").and_then(|wire| {
            let options = "fd=0,rootmode=40000,user_id=0,group_id=0";
            let mut command = Command::new("mount");
            command.args(["-i", "-t", kind, "-o", options, "host:/share"]).arg(folder.path());
            // The kernel takes the connection from the number that the options name.
            let done = command.stdin(Stdio::from(wire.try_clone()?)).output()?;
            if done.status.success() { Ok(wire) } else { Err(std::io::Error::other(format!("{done:?}"))) }
        });
        match mounted {
            Ok(wire) => {
                std::thread::spawn(move || answer(wire));
                Some(Share(folder))
            }
            Err(why) => {
                eprintln!("skipped: no file system can be mounted here ({why})");
                None
            }
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// Answers the kernel until the mount is gone: a handshake, a folder's facts, and that nothing else is there.
fn answer(mut wire: File) {
    let mut asked = vec![0; 1 << 17];
    while let Ok(count) = wire.read(&mut asked) {
        let word = |at: usize| u32::from_le_bytes(asked[at..at + 4].try_into().expect("four bytes"));
        let (kind, id) = (word(4), &asked[8..16]);
        let body: Result<Vec<u8>, i32> = match (count >= 40, kind) {
            // To forget and to interrupt wants no answer.
            (false, _) | (true, 2 | 36) => continue,
            // The handshake: version 7.31, writes of 64 KiB.
            (true, 26) => {
                let mut words = [0u32; 16];
                (words[0], words[1], words[5]) = (7, 31, 1 << 16);
                Ok(words.iter().flat_map(|word| word.to_le_bytes()).collect())
            }
            // The facts of the root, which is a folder of everybody's.
            (true, 3) => {
                let mut words = [0u32; 26];
                (words[4], words[19], words[20], words[24]) = (1, 0o040_755, 2, 4096);
                Ok(words.iter().flat_map(|word| word.to_le_bytes()).collect())
            }
            // No such file; for all else: not known.
            (true, 1) => Err(-2),
            (true, _) => Err(-38),
        };
        let (error, body) = body.map_or_else(|error| (error, Vec::new()), |body| (0, body));
        let length = u32::try_from(16 + body.len()).expect("it is short");
        let reply = [&length.to_le_bytes()[..], &error.to_le_bytes(), id, &body].concat();
        let _ = wire.write_all(&reply);
    }
}

// What is under way in the mount blocks its thread.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_on_another_machine_is_refused() {
    let Some(share) = Share::of_kind("fuse.sshfs") else { return };
    let server = Server::prepare(Options::default());
    let link = server.path("elsewhere");
    std::os::unix::fs::symlink(share.0.path(), &link).expect("a link");
    for folder in [share.0.path(), &link] {
        let database = folder.join("data/cc.db");
        let ended = server.command().args(["serve", "--dsn"]).arg(&database).output().expect("it ran");
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(2), "{said}");
        assert!(said.contains("a network file system (fuse.sshfs)") && said.contains("--data-dir"), "{said}");
    }
    // Nor is a store restored into such a place.
    let (from, to) = (tempfile::tempdir().expect("a folder"), share.0.path().join("data"));
    let from = format!("file://{}", from.path().display());
    server.offline(&["restore", "--from", &from, "--data-dir", &to.to_string_lossy()]).expect(1).says("network");
}
