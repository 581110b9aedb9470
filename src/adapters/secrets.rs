//! Resolves secret references at run time: an environment variable, or a file below the secrets
//! directory. What goes wrong is told by name, never by value.

use std::path::{Path, PathBuf};

use super::connectors::Secret;
use crate::core::model::{EnvSecret, FileSecret, ScheduleId, ScheduleSpec, SecretRef};

/// A connector's connection where a schedule leaves it out.
#[derive(Clone, Debug, Default)]
pub struct ConnectorDefaults {
    pub base_url: Option<String>,
    /// `{tenant}` in it stands for the tenant's name: the sandbox has one key a tenant.
    pub api_key: Option<Secret>,
}

/// Resolves references when a run needs what they name, so that a secret that was replaced is the new one.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    /// Where `{ file: NAME }` is looked up; without it there are none.
    pub folder: Option<PathBuf>,
}

impl Secrets {
    /// The secret that a reference names; the message says which one is missing, never a value.
    pub fn resolve(&self, reference: &SecretRef) -> Result<Secret, String> {
        resolve(reference, self.folder.as_deref())
    }
}

/// Larger files are no API keys.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// The prefix of environment variables that schedules may name.
pub const ENV_PREFIX: &str = "CC_SECRET_";

/// Where to reach a schedule's AccuLynx and with which key: the schedule's own, else the
/// connector's defaults. The message says which key is missing.
pub fn connection(
    spec: &ScheduleSpec,
    id: &ScheduleId,
    defaults: &ConnectorDefaults,
    secrets: &Secrets,
) -> Result<(String, Secret), String> {
    let own = spec.connection.clone().unwrap_or_default();
    let base_url = own.base_url.or_else(|| defaults.base_url.clone()).ok_or_else(|| missing(id, "base_url"))?;
    let api_key = match (&own.api_key, &defaults.api_key) {
        (Some(reference), _) => secrets.resolve(reference)?,
        (None, Some(Secret(default))) => Secret(default.replace("{tenant}", id.tenant.as_str())),
        (None, None) => return Err(missing(id, "api_key")),
    };
    Ok((base_url.trim_end_matches('/').to_owned(), api_key))
}

fn missing(id: &ScheduleId, key: &str) -> String {
    format!("connection.{key} is missing: set it in {}, or give the server a default", id.file())
}

fn resolve(reference: &SecretRef, folder: Option<&Path>) -> Result<Secret, String> {
    match reference {
        SecretRef::Env(EnvSecret { env }) => {
            if !env.starts_with(ENV_PREFIX) {
                return Err(format!("the secret's variable {env} does not start with {ENV_PREFIX}"));
            }
            match std::env::var(env) {
                Ok(value) if !value.trim().is_empty() => Ok(Secret(value.trim().to_owned())),
                _ => Err(format!("the secret's variable {env} is not set in the server's environment")),
            }
        }
        SecretRef::File(FileSecret { file }) => read(file, folder),
    }
}

fn read(file: &str, folder: Option<&Path>) -> Result<Secret, String> {
    let folder = folder
        .ok_or_else(|| format!("the secret file {file} cannot be found: COMMAND_CENTER_SECRETS_DIR is not set"))?;
    let plain = !file.is_empty() && !file.contains(['/', '\\', ':']) && !file.starts_with('.');
    if !plain {
        return Err(format!("the secret file {file} is not a plain file name"));
    }
    let path = folder.join(file);
    let fail = |reason: &str| format!("the secret file {} {reason}", path.display());
    let meta = std::fs::metadata(&path).map_err(|e| fail(&format!("cannot be read: {e}")))?;
    if meta.len() > MAX_SECRET_BYTES {
        return Err(fail("is too large for a key"));
    }
    let text = std::fs::read_to_string(&path).map_err(|e| fail(&format!("cannot be read: {e}")))?;
    match text.trim() {
        "" => Err(fail("is empty")),
        value => Ok(Secret(value.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::Connection;

    fn check(api_key: Option<SecretRef>, folder: &Path, defaults: &ConnectorDefaults) -> Result<String, String> {
        let connection_of =
            Connection { base_url: Some("http://127.0.0.1:1/api/".into()), api_key, ..Connection::default() };
        let spec = ScheduleSpec { connection: Some(connection_of), ..ScheduleSpec::default() };
        let id = "acculynx/peak".parse().unwrap();
        let secrets = Secrets { folder: Some(folder.to_owned()) };
        connection(&spec, &id, defaults, &secrets).map(|(url, key)| format!("{url} {}", key.0))
    }

    #[test]
    fn references_are_resolved_and_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("peak"), " from-a-file\n").unwrap();
        let (path, mut defaults) = (folder.path(), ConnectorDefaults::default());
        let file = |name: &str| Some(SecretRef::File(FileSecret { file: name.into() }));
        let env = |name: &str| Some(SecretRef::Env(EnvSecret { env: name.into() }));
        assert_eq!(check(file("peak"), path, &defaults).unwrap(), "http://127.0.0.1:1/api from-a-file");
        assert!(check(file("../peak"), path, &defaults).unwrap_err().contains("plain file name"));
        assert!(check(file("gone"), path, &defaults).unwrap_err().contains("cannot be read"));
        assert!(check(env("PATH"), path, &defaults).unwrap_err().contains("CC_SECRET_"));
        assert!(check(env("CC_SECRET_NOT_SET_ANYWHERE"), path, &defaults).unwrap_err().contains("not set"));
        assert!(check(None, path, &defaults).unwrap_err().contains("connection.api_key is missing"));
        defaults.api_key = Some(Secret("sandbox-{tenant}".into()));
        assert_eq!(check(None, path, &defaults).unwrap(), "http://127.0.0.1:1/api sandbox-peak");
    }
}
