//! A run's private directory and the files in it; secrets put in place of their references, and
//! taken out of whatever is shown.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use tempfile::TempDir;

use crate::adapters::secrets::Secrets;
use crate::core::mask::masked;
use crate::core::model::SecretRef;

/// Shorter secrets would take half of a text with them.
const SHORTEST_HIDDEN: usize = 4;

/// A directory that only this run's program and the server's own user may enter. It goes with the run.
pub(super) struct Workspace(Option<TempDir>, PathBuf);

impl Workspace {
    /// A disk that hangs holds this run up, and nobody else: none of it happens on the runtime's threads.
    pub async fn open(folder: &Path) -> std::io::Result<Self> {
        let folder = folder.to_owned();
        aside(move || Workspace::make(&folder)).await
    }

    fn make(folder: &Path) -> std::io::Result<Self> {
        let folder = std::path::absolute(folder)?;
        make_private(&folder)?;
        let mut builder = tempfile::Builder::new();
        builder.prefix("run-");
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
        let made = builder.tempdir_in(folder)?;
        let path = made.path().to_owned();
        Ok(Workspace(Some(made), path))
    }

    pub fn path(&self) -> &Path {
        &self.1
    }

    /// Writes a file that only the server's own user may read.
    pub async fn write(&self, name: &str, value: &Value) -> std::io::Result<PathBuf> {
        let (path, text) = (self.path().join(name), value.to_string());
        aside(move || write_private(&path, &text).map(|()| path)).await
    }

    /// Removes it with all that the program left there.
    pub async fn close(mut self) {
        let (folder, path) = (self.0.take(), self.path().to_owned());
        if let Err(error) = aside(move || folder.map_or(Ok(()), TempDir::close)).await {
            tracing::warn!(component = "exec", %error, "could not remove {}; the next start will", path.display());
        }
    }
}

/// A run that was given up leaves its directory to a thread that may wait for the disk.
impl Drop for Workspace {
    fn drop(&mut self) {
        let folder = self.0.take();
        if let (Some(folder), Ok(runtime)) = (folder, tokio::runtime::Handle::try_current()) {
            drop(runtime.spawn_blocking(move || drop(folder)));
        }
    }
}

async fn aside<T: Send + 'static>(work: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(text.as_bytes())
}

fn make_private(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Removes what runs of a server that was killed have left: their files may hold secrets.
pub(super) fn sweep(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if let Err(error) = std::fs::remove_dir_all(entry.path()) {
            tracing::warn!(component = "exec", %error, "could not remove {}", entry.path().display());
        }
    }
}

/// Values with their references resolved, and every secret that was met.
#[derive(Default)]
pub(super) struct Resolved {
    hidden: Vec<String>,
}

impl Resolved {
    pub fn secret(&mut self, reference: &SecretRef, secrets: &Secrets) -> Result<String, String> {
        let secret = secrets.resolve(reference)?.0;
        self.hide(&secret);
        Ok(secret)
    }

    pub fn mapping(&mut self, map: &Map<String, Value>, secrets: &Secrets) -> Result<Value, String> {
        let entry = |(key, value): (&String, &Value)| Ok((key.clone(), self.value(value, secrets)?));
        map.iter().map(entry).collect::<Result<Map<_, _>, String>>().map(Value::Object)
    }

    fn value(&mut self, value: &Value, secrets: &Secrets) -> Result<Value, String> {
        match value {
            Value::Object(map) => match reference(map) {
                Some(reference) => self.secret(&reference, secrets).map(Value::String),
                None => self.mapping(map, secrets),
            },
            Value::Array(items) => items.iter().map(|item| self.value(item, secrets)).collect(),
            other => Ok(other.clone()),
        }
    }

    /// Remembers a secret in the spellings in which a program may show it.
    fn hide(&mut self, secret: &str) {
        let quoted = Value::from(secret).to_string();
        let escaped = quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(&quoted).to_owned();
        let in_url: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        let lines = secret.lines().map(|line| line.trim().to_owned());
        self.hidden.extend(lines.chain([secret.to_owned(), escaped, in_url.replace('+', "%20"), in_url]));
        self.hidden.retain(|text| text.len() >= SHORTEST_HIDDEN);
        // The longest first: a shorter one may be a part of it.
        self.hidden.sort_by_key(|text| std::cmp::Reverse(text.len()));
        self.hidden.dedup();
    }

    /// A text of the program's without these secrets, and without what looks like others.
    pub fn masked(&self, text: &str) -> String {
        let replaced = self.hidden.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "***"));
        masked(&replaced)
    }
}

fn reference(map: &Map<String, Value>) -> Option<SecretRef> {
    let alone = map.len() == 1 && (map.contains_key("env") || map.contains_key("file"));
    if alone { serde_json::from_value(Value::Object(map.clone())).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn references_are_resolved_at_any_depth_and_hidden_after() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "p/w \"x\"\n").unwrap();
        std::fs::write(folder.path().join("pem"), "-----BEGIN-----\nfirst line\nsecond line\n").unwrap();
        let secrets = Secrets { folder: Some(folder.path().to_owned()) };
        let config = json!({"a": {"file": "a"}, "b": [{"c": {"file": "pem"}}, 5], "d": {"env": "x", "e": 1}});
        let mut resolved = Resolved::default();
        let value = resolved.mapping(config.as_object().unwrap(), &secrets).unwrap();
        assert_eq!(value["a"], "p/w \"x\"");
        assert_eq!(value["b"], json!([{"c": "-----BEGIN-----\nfirst line\nsecond line"}, 5]));
        assert_eq!(value["d"], json!({"env": "x", "e": 1}));
        for text in [r#"p/w "x""#, r#"p/w \"x\""#, "p%2Fw%20%22x%22", "p%2Fw+%22x%22", "second line"] {
            assert_eq!(resolved.masked(&format!("<{text}>")), "<***>", "{text}");
        }
        assert_eq!(resolved.masked("GET /jobs, 25 records"), "GET /jobs, 25 records");
        let missing = json!({"x": [{"file": "gone"}]});
        assert!(resolved.mapping(missing.as_object().unwrap(), &secrets).unwrap_err().contains("gone"));
    }

    #[tokio::test]
    async fn a_workspace_is_private_and_goes() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("exec");
        let workspace = Workspace::open(&place).await.unwrap();
        let file = workspace.write("config.json", &json!({"a": 1})).await.unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), r#"{"a":1}"#);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&place), mode(workspace.path()), mode(&file)), (0o700, 0o700, 0o600));
        }
        workspace.close().await;
        assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0);
        std::fs::create_dir_all(place.join("run-left/deep")).unwrap();
        sweep(&place);
        assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0);
    }
}
