//! Commits write-backs without touching what a person has staged or left uncommitted: the commits are
//! made beside the index and the work tree, HEAD moves only if nobody else moved it, and the index
//! takes over the committed paths where a person has not staged anything else for them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::origins::texts;
use super::program::{Call, GitError};
use super::repo::Repo;
use crate::core::model::{Digest, Millis};

/// An edit of one file that was made through the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteBack {
    /// Relative to the desired directory.
    pub path: String,
    /// Digest of what the file held before; `None` when there was none.
    pub base: Option<Digest>,
    /// The file's new bytes; `None` deleted it.
    pub content: Option<Vec<u8>>,
    pub actor: String,
    pub action_id: String,
    pub message: String,
    pub at: Millis,
}

/// A file that no longer is as its last write-back left it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Displaced {
    /// Relative to the desired directory.
    pub path: String,
    /// What it holds now; `None` when it is gone.
    pub content: Option<Vec<u8>>,
}

/// What became of the write-backs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// HEAD before and after.
    pub before: Option<String>,
    pub after: Option<String>,
    pub commits: usize,
    /// Files whose write-backs were thrown away in the work tree before they could be committed.
    pub discarded: Vec<String>,
}

/// The trailer that says which action a commit came from.
pub const ACTION_TRAILER: &str = "Command-Center-Action";

/// Who commits, as git writes it.
const COMMITTER: &str = "Command Center <command-center@localhost>";

/// Holds the new commits until HEAD has them.
const STAGING: &str = "refs/command-center/commit";

/// How many commits are looked through for actions that a crash kept from being crossed off.
const LOOK_BACK: &str = "500";

/// A file as git keeps it: mode and blob.
type Entry = (String, String);

/// One commit to be made.
struct Step<'a> {
    edit: &'a WriteBack,
    path: String,
    /// `None` deletes.
    entry: Option<Entry>,
}

impl Repo {
    /// Commits `edits` in their order, each on its own. An edit whose action is in the history, or
    /// whose content the branch has already, makes no commit. With an error nothing has moved.
    pub fn commit(&self, edits: &[WriteBack], displaced: &[Displaced]) -> Result<Committed, GitError> {
        self.branch()?;
        let before = self.head()?;
        let known = self.known_actions(before.as_deref())?;
        let mut paths: HashMap<&str, String> = HashMap::new();
        let mut by_path: BTreeMap<&str, Vec<&WriteBack>> = BTreeMap::new();
        let mut due = Vec::new();
        for edit in edits {
            let name = paths.entry(&edit.path).or_insert_with(|| self.real_path(&edit.path));
            if !known.contains(&(edit.action_id.clone(), name.clone())) {
                by_path.entry(&edit.path).or_default().push(edit);
                due.push(edit);
            }
        }
        let names: BTreeSet<&String> = paths.values().collect();
        let in_head = if before.is_some() { self.tree_entries(&names)? } else { HashMap::new() };
        let mut blobs: HashMap<&str, Vec<Option<String>>> = HashMap::new();
        let mut discarded = Vec::new();
        for (path, of_path) in &by_path {
            let name = paths.get(path).map(String::as_str).unwrap_or_default();
            let made =
                of_path.iter().map(|edit| self.blob(name, edit.content.as_deref())).collect::<Result<Vec<_>, _>>()?;
            let head = in_head.get(name).map(|(_, blob)| blob.clone());
            let fate = self.fate(name, &head, of_path, &made, displaced)?;
            if fate == Fate::Discarded {
                discarded.push((*path).to_owned());
            }
            if fate == Fate::Due {
                blobs.insert(path, made);
            }
        }
        let steps = steps(&due, &paths, &in_head, blobs);
        if steps.is_empty() {
            return Ok(Committed { after: before.clone(), before, commits: 0, discarded });
        }
        let after = self.import(&steps, before.as_deref())?;
        self.follow_in_index(&steps, &in_head)?;
        self.move_head(before.as_deref(), &after, steps.len())?;
        Ok(Committed { before, after: Some(after), commits: steps.len(), discarded })
    }

    /// The branch that is checked out.
    pub(super) fn branch(&self) -> Result<String, GitError> {
        let ended = self.program.end(Call::new(["symbolic-ref", "--quiet", "--short", "HEAD"]))?;
        if ended.code != Some(0) {
            return Err(GitError::Refused(
                "HEAD is detached: no branch would keep a commit; check out a branch".to_owned(),
            ));
        }
        Ok(String::from_utf8_lossy(&ended.out).trim().to_owned())
    }

    /// Actions and the files of theirs that the newest part of the history has commits for.
    fn known_actions(&self, head: Option<&str>) -> Result<HashSet<(String, String)>, GitError> {
        let Some(head) = head else { return Ok(HashSet::new()) };
        let form = format!("--format=tformat:%x02%(trailers:key={ACTION_TRAILER},valueonly,separator=%x20)");
        let args =
            ["log", "-z", "--no-renames", "--name-only", "--max-count", LOOK_BACK, &form, "--end-of-options", head];
        let out = self.program.run(Call::new(args))?;
        let mut action = String::new();
        let mut known = HashSet::new();
        for field in texts(&out) {
            let field = field.trim_start_matches('\n');
            match field.strip_prefix('\u{2}') {
                Some(trailer) => action = trailer.trim().to_owned(),
                None if !action.is_empty() && !field.is_empty() => {
                    known.insert((action.clone(), field.to_owned()));
                }
                None => {}
            }
        }
        Ok(known)
    }

    /// What is to be done with a file's write-backs.
    fn fate(
        &self,
        name: &str,
        head: &Option<String>,
        edits: &[&WriteBack],
        made: &[Option<String>],
        displaced: &[Displaced],
    ) -> Result<Fate, GitError> {
        let path = edits.first().map(|edit| edit.path.as_str()).unwrap_or_default();
        if let Some(found) = displaced.iter().find(|found| found.path == path)
            && self.blob(name, found.content.as_deref())? == *head
        {
            // Its content was brought back to the branch's, by a checkout or a stash.
            return Ok(if made.last() == Some(head) { Fate::There } else { Fate::Discarded });
        }
        if made.last() != Some(head) {
            return Ok(Fate::Due);
        }
        // Either somebody has committed the file already, or the edits lead back to where they began.
        let first = edits.first().and_then(|edit| edit.base);
        let began_here = self.digest_of(head.as_deref())? == first;
        Ok(if began_here { Fate::Due } else { Fate::There })
    }

    fn digest_of(&self, blob: Option<&str>) -> Result<Option<Digest>, GitError> {
        let Some(blob) = blob else { return Ok(None) };
        Ok(Some(Digest::of(&self.program.run(Call::new(["cat-file", "blob", blob]))?)))
    }

    /// Stores a content as git would on `add`, with the filters of its path; its blob.
    fn blob(&self, name: &str, content: Option<&[u8]>) -> Result<Option<String>, GitError> {
        let Some(content) = content else { return Ok(None) };
        let path = format!("--path={name}");
        let call = Call::new(["hash-object", "-w", &path, "--stdin"]).input(content.to_vec());
        self.program.line(call).map(Some)
    }

    /// Modes and blobs of paths in HEAD.
    fn tree_entries(&self, names: &BTreeSet<&String>) -> Result<HashMap<String, Entry>, GitError> {
        if names.is_empty() {
            return Ok(HashMap::new());
        }
        let out = self.program.run(Call::new(["ls-tree", "-z", "--full-tree", "HEAD"]).paths(names))?;
        // MODE blob ID<tab>PATH
        Ok(texts(&out)
            .filter_map(|line| {
                let (entry, path) = line.split_once('\t')?;
                let mut words = entry.split(' ');
                let (mode, blob) = (words.next()?, words.nth(1)?);
                Some((path.to_owned(), (mode.to_owned(), blob.to_owned())))
            })
            .collect())
    }

    /// Makes the commits, reachable from nowhere but the staging reference; the last one's id.
    fn import(&self, steps: &[Step<'_>], parent: Option<&str>) -> Result<String, GitError> {
        let mut stream = Vec::new();
        for (n, step) in steps.iter().enumerate() {
            let parent = parent.filter(|_| n == 0);
            write_commit(&mut stream, step, n + 1, parent);
        }
        stream.extend(format!("get-mark :{}\ndone\n", steps.len()).into_bytes());
        // Forced is the staging reference alone: what a crash left there is in nobody's way.
        let args = ["fast-import", "--quiet", "--done", "--force", "--date-format=raw"];
        let id = self.program.line(Call::new(args).input(stream))?;
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(GitError::Strange { command: "fast-import".to_owned(), answer: id });
        }
        Ok(id)
    }

    /// Lets the index follow HEAD on the committed paths, so that they do not look staged for going
    /// back. Where a person has staged something else, it stays.
    fn follow_in_index(&self, steps: &[Step<'_>], in_head: &HashMap<String, Entry>) -> Result<(), GitError> {
        let last: BTreeMap<&str, &Step<'_>> = steps.iter().map(|step| (step.path.as_str(), step)).collect();
        let out = self.program.run(Call::new(["ls-files", "--stage", "-z"]).paths(last.keys()))?;
        // MODE ID STAGE<tab>PATH
        let staged: HashMap<String, String> = texts(&out)
            .filter_map(|line| {
                let (entry, path) = line.split_once('\t')?;
                Some((path.to_owned(), entry.split(' ').nth(1)?.to_owned()))
            })
            .collect();
        let mut info = Vec::new();
        for (path, step) in last {
            let head = in_head.get(path).map(|(_, blob)| blob);
            let index = staged.get(path);
            let first = steps.iter().find(|step| step.path == path).and_then(|step| step.edit.base);
            // What was staged is in the commit too where the edit was made on top of it.
            let may_follow = index == head || (index.is_some() && self.digest_of(index.map(String::as_str))? == first);
            if may_follow {
                let nothing = ("0".to_owned(), "0".repeat(head.map_or(40, String::len)));
                let (mode, blob) = step.entry.as_ref().unwrap_or(&nothing);
                info.extend(format!("{mode} {blob}\t{path}\0").into_bytes());
            }
        }
        if !info.is_empty() {
            self.program.run(Call::new(["update-index", "-z", "--index-info"]).input(info))?;
        }
        Ok(())
    }

    /// Moves the branch from `before` to `after`, or not at all if somebody else has moved it.
    fn move_head(&self, before: Option<&str>, after: &str, commits: usize) -> Result<(), GitError> {
        let step = match before {
            Some(before) => format!("update HEAD {after} {before}\n"),
            None => format!("create HEAD {after}\n"),
        };
        let note = format!("command-center: {commits} of the API's changes");
        let transaction = format!("{step}delete {STAGING}\n").into_bytes();
        self.program.run(Call::new(["update-ref", "-m", &note, "--stdin"]).input(transaction)).map(|_| ())
    }

    /// Where in the work tree a file of the desired directory really lies.
    fn real_path(&self, path: &str) -> String {
        let plain = format!("{}{path}", self.prefix);
        let there = self.program.folder().join(&plain);
        let real = std::fs::canonicalize(&there).ok().or_else(|| {
            let folder = std::fs::canonicalize(there.parent()?).ok()?;
            Some(folder.join(there.file_name()?))
        });
        let top = std::fs::canonicalize(self.program.folder()).ok();
        let inner = real.zip(top).and_then(|(real, top)| Some(real.strip_prefix(top).ok()?.to_str()?.to_owned()));
        inner.map_or(plain, |inner| if cfg!(windows) { inner.replace('\\', "/") } else { inner })
    }
}

#[derive(PartialEq, Eq)]
enum Fate {
    Due,
    /// The branch has it.
    There,
    Discarded,
}

/// The commits to make, in the order of the edits.
fn steps<'a>(
    edits: &[&'a WriteBack],
    paths: &HashMap<&str, String>,
    in_head: &HashMap<String, Entry>,
    blobs: HashMap<&str, Vec<Option<String>>>,
) -> Vec<Step<'a>> {
    let mut left: HashMap<&str, std::vec::IntoIter<Option<String>>> =
        blobs.into_iter().map(|(path, made)| (path, made.into_iter())).collect();
    let mut current: HashMap<&str, Option<String>> = HashMap::new();
    let mut steps = Vec::new();
    for edit in edits.iter().copied() {
        let (Some(blob), Some(path)) =
            (left.get_mut(edit.path.as_str()).and_then(Iterator::next), paths.get(edit.path.as_str()))
        else {
            continue;
        };
        let head = in_head.get(path);
        let before = current.entry(&edit.path).or_insert_with(|| head.map(|(_, blob)| blob.clone()));
        if *before == blob {
            continue;
        }
        before.clone_from(&blob);
        let mode = head.map_or("100644", |(mode, _)| mode.as_str()).to_owned();
        steps.push(Step { edit, path: path.clone(), entry: blob.map(|blob| (mode, blob)) });
    }
    steps
}

/// One commit in fast-import's language.
fn write_commit(stream: &mut Vec<u8>, step: &Step<'_>, mark: usize, parent: Option<&str>) {
    let edit = step.edit;
    let at = edit.at.div_euclid(1000);
    let message = format!("{}\n\n{ACTION_TRAILER}: {}\n", one_line(&edit.message), one_line(&edit.action_id));
    let author = author(&edit.actor);
    let head = format!(
        "commit {STAGING}\nmark :{mark}\nauthor {author} {at} +0000\ncommitter {COMMITTER} {at} +0000\ndata {}\n{message}\n",
        message.len()
    );
    stream.extend(head.into_bytes());
    if let Some(parent) = parent {
        stream.extend(format!("from {parent}\n").into_bytes());
    }
    let path = step.path.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let change = match &step.entry {
        Some((mode, blob)) => format!("M {mode} {blob} \"{path}\"\n\n"),
        None => format!("D \"{path}\"\n\n"),
    };
    stream.extend(change.into_bytes());
}

/// A subject of one line, whatever a caller wrote: nothing in it can pass for a trailer.
fn one_line(text: &str) -> String {
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

/// The actor as an author: a name without what git gives a meaning, and an address that leads nowhere.
fn author(actor: &str) -> String {
    let name: String = one_line(actor).chars().filter(|c| !matches!(c, '<' | '>')).take(100).collect();
    let name = name.trim();
    let name = if name.is_empty() { "unknown" } else { name };
    let local: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).take(60).collect();
    let local = local.trim_matches('-');
    let local = if local.is_empty() { "actor" } else { local };
    format!("{name} <{local}@command-center.invalid>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_actor_becomes_an_author_whatever_it_is_called() {
        for (actor, expect) in [
            ("zoe", "zoe <zoe@command-center.invalid>"),
            ("operator@127.0.0.1", "operator@127.0.0.1 <operator-127-0-0-1@command-center.invalid>"),
            ("Zoë <z@x>\nroot 1 +0000", "Zoë z@x root 1 +0000 <zo--z-x-root-1--0000@command-center.invalid>"),
            ("<>", "unknown <unknown@command-center.invalid>"),
            ("åß", "åß <actor@command-center.invalid>"),
        ] {
            assert_eq!(author(actor), expect);
        }
        assert_eq!(one_line("a\n\nCommand-Center-Action: x\u{1b}[0m"), "a Command-Center-Action: x [0m");
    }
}
