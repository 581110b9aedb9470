//! Log lines: one flat JSON object a line for machines (contract part 9), a coloured line for a
//! person at a terminal. Fields of the enclosing spans are part of each line.

mod line;

use std::io::{IsTerminal as _, Write as _};
use std::str::FromStr;

use tracing::{Event, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry};

use crate::adapters::clock::Clock;
use line::{Fields, Line};

/// The least serious lines that are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    Debug,
    #[default]
    Info,
    Warning,
    Error,
}

/// How lines look; left open, a terminal gets text and everything else JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Json,
    Text,
}

/// A word that names no level or format; the message lists those there are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("allowed are {0}")]
pub struct UnknownLogSetting(&'static str);

impl LogLevel {
    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::Debug => "debug",
            LogLevel::Info => "info",
            LogLevel::Warning => "warning",
            LogLevel::Error => "error",
        }
    }

    fn filter(self) -> tracing::Level {
        match self {
            LogLevel::Debug => tracing::Level::DEBUG,
            LogLevel::Info => tracing::Level::INFO,
            LogLevel::Warning => tracing::Level::WARN,
            LogLevel::Error => tracing::Level::ERROR,
        }
    }
}

impl FromStr for LogLevel {
    type Err = UnknownLogSetting;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_lowercase().as_str() {
            "debug" => Ok(LogLevel::Debug),
            "info" => Ok(LogLevel::Info),
            "warning" | "warn" => Ok(LogLevel::Warning),
            "error" => Ok(LogLevel::Error),
            _ => Err(UnknownLogSetting("debug, info, warning (or warn) and error")),
        }
    }
}

impl LogFormat {
    pub fn as_str(self) -> &'static str {
        match self {
            LogFormat::Json => "json",
            LogFormat::Text => "text",
        }
    }
}

impl FromStr for LogFormat {
    type Err = UnknownLogSetting;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_lowercase().as_str() {
            "json" => Ok(LogFormat::Json),
            "text" => Ok(LogFormat::Text),
            _ => Err(UnknownLogSetting("json and text")),
        }
    }
}

/// Sends this process' log lines to stdout. `None` as format lets the terminal decide.
///
/// # Errors
/// When logging was set up before.
pub fn init_logging(format: Option<LogFormat>, level: LogLevel) -> anyhow::Result<()> {
    let terminal = std::io::stdout().is_terminal();
    let format = format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json });
    let colour = anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never;
    let lines = Lines { format, colour, clock: Clock::System, writer: std::io::stdout };
    tracing::subscriber::set_global_default(subscriber(lines, level))?;
    Ok(())
}

fn subscriber<W>(lines: Lines<W>, level: LogLevel) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // Libraries speak up when something is wrong; their progress is of interest to their authors.
    let others = level.filter().min(tracing::Level::WARN);
    let filter = Targets::new().with_default(others).with_target(env!("CARGO_CRATE_NAME"), level.filter());
    Registry::default().with(lines.with_filter(filter))
}

/// The layer that writes one line an event.
struct Lines<W> {
    format: LogFormat,
    colour: bool,
    clock: Clock,
    writer: W,
}

impl<S, W> Layer<S> for Lines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    fn on_new_span(&self, attributes: &tracing::span::Attributes<'_>, id: &tracing::Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &tracing::Id, values: &tracing::span::Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(outer) = span.extensions().get::<Fields>() {
                fields.extend(outer);
            }
        }
        event.record(&mut fields);
        let line = Line { at: self.clock.now(), metadata: event.metadata(), fields: &fields };
        let mut text = match self.format {
            LogFormat::Json => line.json(),
            LogFormat::Text => line.text(self.colour),
        };
        text.push('\n');
        // Nobody is left to tell when the log itself cannot be written.
        let _ = self.writer.make_writer_for(event.metadata()).write_all(text.as_bytes());
    }
}

#[cfg(test)]
mod tests;
