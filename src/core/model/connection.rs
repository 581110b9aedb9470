//! How a source is reached: one flat value for all connectors, each of which takes its own keys of it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{EnvValue, HttpAuth, HttpRequest, Protocol, Resource};

/// Where a secret is to be found at run time; never the secret itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum SecretRef {
    /// An environment variable of the server, with the prefix `CC_SECRET_`.
    Env(EnvSecret),
    /// A file below `COMMAND_CENTER_SECRETS_DIR`.
    File(FileSecret),
}

/// `{ env: CC_SECRET_NAME }`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvSecret {
    /// The variable's name; it starts with `CC_SECRET_`.
    #[schemars(regex(pattern = "^CC_SECRET_[A-Z0-9_]+$"), example = &"CC_SECRET_PEAKPRO")]
    pub env: String,
}

/// `{ file: NAME }`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileSecret {
    /// A plain file name below the secrets directory, without a path.
    #[schemars(regex(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$"), example = &"peakpro")]
    pub file: String,
}

/// How to reach the source. What is left out comes from the connector's defaults in the settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Connection {
    /// The API's address up to and without the resource, e.g. `https://api.acculynx.com/api/v2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^https?://"))]
    pub base_url: Option<String>,
    /// Where the API key is found; never the key itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<SecretRef>,
    /// Where the secret part of the webhook's address is found, at least 32 characters: AccuLynx tells of changes at
    /// `/webhooks/acculynx/TENANT/TOKEN`. Without it, it is only asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_token: Option<SecretRef>,
    /// `http`: headers that each request carries, by name; none that carry secrets, see `auth`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// `http`: how requests prove who asks; nothing is proven when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<HttpAuth>,
    /// `http`: the largest answer taken in, in MiB after decompression, 1 to 256; 8 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 256))]
    pub max_body_mb: Option<u32>,
    /// `http`: how each resource is read, by the resource's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: BTreeMap<Resource, HttpRequest>,
    /// The program that `exec` runs and its arguments, each an item of its own: no shell reads them. The program is an
    /// absolute path, or a name on the server's PATH, and one that `COMMAND_CENTER_EXEC_ALLOW` lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// What the program reads from its configuration file, a private JSON file. It is passed as `--config FILE`, or
    /// where `command` says `{{config}}`. Secrets in it are references, at any depth.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub config: Map<String, Value>,
    /// A Singer catalog, passed in the same way as `--catalog FILE` or for `{{catalog}}`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub catalog: Map<String, Value>,
    /// Further environment variables for the program, besides those that it always gets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, EnvValue>,
    /// What the program writes on its standard output; `auto` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// The program is ended when it has written nothing at all for this many seconds; 300 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400), example = 300)]
    pub idle_timeout_sec: Option<u32>,
    /// The most that the program may write on its standard output, in MiB; 512 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 102_400), example = 512)]
    pub max_output_mb: Option<u32>,
    /// The longest line that the program may write, in KiB; 4096 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_536), example = 4096)]
    pub max_line_kb: Option<u32>,
}
