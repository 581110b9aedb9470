//! Which programs may be run: those that the operator listed, and no other that looks like them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The setting that lists programs, for messages.
const SETTING: &str = "COMMAND_CENTER_EXEC_ALLOW";

/// The programs that the server's settings allow, and where plain names are looked up.
#[derive(Clone, Debug, Default)]
pub struct Programs {
    /// As the operator named them, made absolute. What is run is one of these paths, never a schedule's
    /// spelling of it.
    allowed: Vec<PathBuf>,
    missing: Vec<String>,
    path: OsString,
}

impl Programs {
    /// `allowed` holds absolute paths, and plain names that are looked up in `path` now.
    pub fn new(allowed: &[String], path: OsString) -> Self {
        let mut programs = Programs { path, ..Programs::default() };
        for name in allowed {
            let found = programs.look_up(name);
            if !found.as_deref().is_some_and(Path::is_file) {
                programs.missing.push(name.clone());
            }
            // An absolute path stays: the program may be installed later.
            programs.allowed.extend(found);
        }
        programs
    }

    /// Those of the list that are not there, for a warning.
    pub fn missing(&self) -> &[String] {
        &self.missing
    }

    /// The directories that plain names are looked up in.
    pub fn path(&self) -> &OsString {
        &self.path
    }

    /// The path to run for a program as a schedule names it.
    ///
    /// Two names are the same program when they lead to the same file, whatever links lie between.
    pub fn find(&self, name: &str) -> Result<PathBuf, String> {
        let asked = self.look_up(name).ok_or_else(|| {
            format!("the program {name} is not on the server's PATH: install it, or write its absolute path")
        })?;
        let file = std::fs::canonicalize(&asked)
            .map_err(|error| format!("the program {} cannot be found: {error}", asked.display()))?;
        let mut same = self.allowed.iter().filter(|path| std::fs::canonicalize(path).is_ok_and(|other| other == file));
        let exact = self.allowed.iter().find(|path| **path == asked);
        match exact.filter(|exact| same.clone().any(|path| path == *exact)).or_else(|| same.next()) {
            Some(path) => Ok(path.clone()),
            None => Err(format!(
                "this server may not run {}: add it to {SETTING} (--exec-allow) and restart the server",
                asked.display()
            )),
        }
    }

    /// An absolute path as it is, a plain name where the directories of `path` have it. Relative paths
    /// lead nowhere: there is no directory that they could start from.
    fn look_up(&self, name: &str) -> Option<PathBuf> {
        if Path::new(name).is_absolute() {
            return Some(name.into());
        }
        if name.is_empty() || name.contains(['/', '\\', ':']) {
            return None;
        }
        let names = if cfg!(windows) { vec![format!("{name}.exe"), name.to_owned()] } else { vec![name.to_owned()] };
        std::env::split_paths(&self.path)
            .filter(|folder| folder.is_absolute())
            .flat_map(|folder| names.iter().map(move |name| folder.join(name)).collect::<Vec<_>>())
            .find(|path| is_program(path))
    }
}

#[cfg(unix)]
fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Batch files are run by a shell, so that they are none.
#[cfg(not(unix))]
fn is_program(path: &Path) -> bool {
    path.is_file()
        && !path.extension().is_some_and(|end| end.eq_ignore_ascii_case("bat") || end.eq_ignore_ascii_case("cmd"))
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn program(path: &Path) {
        std::fs::write(path, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn only_listed_programs_are_found_whatever_way_they_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        for name in ["tap", "other", "listed"] {
            program(&at(name));
        }
        std::fs::create_dir(at("sub")).unwrap();
        symlink(at("tap"), at("sub/alias")).unwrap();
        symlink(at("other"), at("sub/tap")).unwrap();
        std::fs::write(at("data"), "").unwrap();
        let programs = Programs::new(&["tap".into(), text(at("listed")), "gone".into()], folder.path().into());
        assert_eq!(programs.missing(), ["gone"]);
        for (name, expect) in [
            ("tap".to_owned(), at("tap")),
            (text(at("tap")), at("tap")),
            (text(at("sub/../tap")), at("tap")),
            (text(at("listed")), at("listed")),
            // A link to a listed program runs the program as it was listed.
            (text(at("sub/alias")), at("tap")),
        ] {
            assert_eq!(programs.find(&name).unwrap(), expect, "{name}");
        }
        for name in [text(at("other")), text(at("sub/tap")), text(at("sub/../other")), text(folder.path().into())] {
            let refused = programs.find(&name).unwrap_err();
            assert!(refused.contains("COMMAND_CENTER_EXEC_ALLOW") && refused.contains(&name), "{refused}");
        }
        for name in ["data", "gone", "./tap", "../tap", "sub/alias", ""] {
            assert!(programs.find(name).unwrap_err().contains("not on the server's PATH"), "{name}");
        }
        assert!(programs.find("/no/such/program").unwrap_err().contains("cannot be found"));
    }

    #[test]
    fn of_two_names_of_one_file_each_runs_as_it_was_listed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        program(&at("many"));
        symlink(at("many"), at("one")).unwrap();
        symlink(at("many"), at("two")).unwrap();
        let listed: Vec<String> = ["one", "two"].iter().map(|name| at(name).to_str().unwrap().to_owned()).collect();
        let programs = Programs::new(&listed, OsString::new());
        assert_eq!(programs.find(&listed[0]).unwrap(), at("one"));
        assert_eq!(programs.find(&listed[1]).unwrap(), at("two"));
        // Not listed itself: it runs as one that is, never as something else that the file can be.
        assert_eq!(programs.find(at("many").to_str().unwrap()).unwrap(), at("one"));
        assert!(Programs::default().find(&listed[0]).unwrap_err().contains("--exec-allow"));
    }
}
