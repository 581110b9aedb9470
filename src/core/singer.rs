//! The Singer format: what a line of a tap's output says, under which key a record stands, and which
//! state may be kept. A state speaks for the records before it, so it goes with them or after them.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::model::{Digest, Resource};

/// A batch is written when it holds this many records, or lines of this many bytes.
const BATCH_RECORDS: usize = 500;
const BATCH_BYTES: usize = 1 << 20;
/// More streams than this are no tap's.
const MOST_STREAMS: usize = 10_000;
/// A longer key is replaced by its record's hash.
const LONGEST_KEY: usize = 512;
const LONGEST_NAME: usize = 64;
/// As much of a line as a message repeats.
const SHOWN_CHARS: usize = 80;

/// What one line says.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// A stream begins, or changes: its records are told apart by these properties.
    Schema {
        stream: String,
        key_properties: Vec<String>,
    },
    Record {
        stream: String,
        record: Map<String, Value>,
    },
    /// Opaque: it is given back to the tap as it came.
    State(Value),
    /// Nothing to keep: `ACTIVATE_VERSION`, or a kind that the format may gain.
    Other,
}

/// Why output is not what the format says; the line is counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the output {problem}")]
pub struct Fault {
    pub line: u64,
    pub problem: String,
}

/// A record under the key that names it within its stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Keyed {
    pub stream: String,
    pub key: String,
    pub payload: Value,
}

/// What may be written in one transaction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    pub records: Vec<Keyed>,
    /// The newest state, all of whose records are in this batch or one before it.
    pub state: Option<Value>,
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.state.is_none()
    }
}

/// Reads messages in their order and gathers what is to be written.
#[derive(Debug, Default)]
pub struct Reader {
    line: u64,
    /// The key properties of each stream that has a schema.
    streams: HashMap<String, Vec<String>>,
    batch: Batch,
    bytes: usize,
}

/// Whether a line is a message of the format, whatever comes of it. Other programs write JSON too.
pub fn is_message(line: &[u8]) -> bool {
    const KINDS: [&str; 5] = ["SCHEMA", "RECORD", "STATE", "ACTIVATE_VERSION", "BATCH"];
    #[derive(serde::Deserialize)]
    struct Kind<'a> {
        #[serde(rename = "type", borrow)]
        kind: std::borrow::Cow<'a, str>,
    }
    serde_json::from_slice::<Kind<'_>>(line).is_ok_and(|message| KINDS.contains(&message.kind.as_ref()))
}

impl Reader {
    /// Counts a line that was looked at elsewhere.
    pub fn pass_over(&mut self) {
        self.line += 1;
    }

    /// Takes in one line. Blank ones say nothing.
    pub fn read(&mut self, line: &[u8]) -> Result<(), Fault> {
        self.line += 1;
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        match self.message(line)? {
            Message::Schema { stream, key_properties } => {
                self.streams.insert(stream, key_properties);
                if self.streams.len() > MOST_STREAMS {
                    return Err(self.fault(format!("begins a stream too many: the most is {MOST_STREAMS}")));
                }
            }
            Message::Record { stream, record } => {
                let Some(properties) = self.streams.get(&stream) else {
                    return Err(
                        self.fault(format!("is a record of {}, which has no SCHEMA before it", quoted(&stream)))
                    );
                };
                let key = key_of(properties, &record);
                let payload = Value::Object(record);
                let key = key.unwrap_or_else(|| content_key(&payload));
                self.batch.records.push(Keyed { stream, key, payload });
                self.bytes += line.len();
            }
            Message::State(state) => self.batch.state = Some(state),
            Message::Other => {}
        }
        Ok(())
    }

    /// Whether it is time to write: a batch is bounded in records and bytes, and so is memory.
    pub fn is_full(&self) -> bool {
        self.batch.records.len() >= BATCH_RECORDS || self.bytes >= BATCH_BYTES
    }

    /// Whether a state waits for its records to be written.
    pub fn has_state(&self) -> bool {
        self.batch.state.is_some()
    }

    /// Everything gathered since the last time. Records after the newest state may be among them: they
    /// are written, no state speaks for them yet, and the tap will bring them again.
    pub fn take(&mut self) -> Batch {
        self.bytes = 0;
        std::mem::take(&mut self.batch)
    }

    fn message(&self, line: &[u8]) -> Result<Message, Fault> {
        let value: Value = serde_json::from_slice(line).map_err(|error| {
            let cut_off = if error.is_eof() { ": it is cut off" } else { "" };
            self.fault(format!("is not a Singer message{cut_off}: {}", shown(line)))
        })?;
        let Value::Object(mut message) = value else {
            return Err(self.fault(format!("is not a Singer message: {}", shown(line))));
        };
        let Some(Value::String(kind)) = message.remove("type") else {
            return Err(self.fault(format!("is not a Singer message, it has no type: {}", shown(line))));
        };
        match kind.as_str() {
            "SCHEMA" => {
                let stream = self.stream(&mut message, "SCHEMA")?;
                let key_properties = self.key_properties(message.remove("key_properties"))?;
                Ok(Message::Schema { stream, key_properties })
            }
            "RECORD" => {
                let stream = self.stream(&mut message, "RECORD")?;
                match message.remove("record") {
                    Some(Value::Object(record)) => Ok(Message::Record { stream, record }),
                    _ => Err(self.fault("is a RECORD whose record is not an object".to_owned())),
                }
            }
            "STATE" => {
                let state = message.remove("value");
                state.map(Message::State).ok_or_else(|| self.fault("is a STATE without a value".to_owned()))
            }
            "BATCH" => Err(self.fault(
                "is a BATCH, which names files instead of records: turn batches off in the tap's config".to_owned(),
            )),
            _ => Ok(Message::Other),
        }
    }

    fn stream(&self, message: &mut Map<String, Value>, kind: &str) -> Result<String, Fault> {
        match message.remove("stream") {
            Some(Value::String(stream)) if !stream.trim().is_empty() => Ok(stream),
            _ => Err(self.fault(format!("is a {kind} that names no stream"))),
        }
    }

    fn key_properties(&self, value: Option<Value>) -> Result<Vec<String>, Fault> {
        let fault = || self.fault("is a SCHEMA whose key_properties are not a list of names".to_owned());
        match value {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(names)) => {
                let name = |name: Value| if let Value::String(name) = name { Some(name) } else { None };
                names.into_iter().map(name).collect::<Option<_>>().ok_or_else(fault)
            }
            Some(_) => Err(fault()),
        }
    }

    fn fault(&self, problem: String) -> Fault {
        Fault { line: self.line, problem }
    }
}

/// A record's key from its key properties; several are joined so that no two records can meet in one.
fn key_of(properties: &[String], record: &Map<String, Value>) -> Option<String> {
    let part = |name: &String| match record.get(name)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(yes) => Some(yes.to_string()),
        _ => None,
    };
    let key = match properties {
        [] => return None,
        [only] => part(only)?,
        several => {
            let escaped = |name: &String| part(name).map(|part| part.replace('\\', "\\\\").replace('|', "\\|"));
            several.iter().map(escaped).collect::<Option<Vec<_>>>()?.join("|")
        }
    };
    (key.len() <= LONGEST_KEY).then_some(key)
}

/// The key of a record that has none of its own: the same content is the same record.
fn content_key(payload: &Value) -> String {
    format!("sha256:{}", Digest::of(payload.to_string().as_bytes()).to_hex())
}

/// The resource under which a stream's records are stored: its name, with what is odd replaced.
pub fn resource_of(stream: &str) -> Resource {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' };
    let name: String = stream.trim().chars().map(plain).collect();
    let name: String = name.trim_start_matches(['.', '_', '-']).chars().take(LONGEST_NAME).collect();
    name.parse().unwrap_or(Resource::UNNAMED)
}

/// The beginning of a line, for a message.
fn shown(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line.get(..SHOWN_CHARS * 4).unwrap_or(line));
    quoted(text.trim())
}

fn quoted(text: &str) -> String {
    let visible = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut short: String = text.chars().take(SHOWN_CHARS).map(visible).collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        short.push('…');
    }
    format!("\"{short}\"")
}

#[cfg(test)]
mod tests;
