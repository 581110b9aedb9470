//! What the program says of itself: metrics for Prometheus, log lines for people and machines.

mod logging;
mod metrics;

pub use logging::{LogFormat, LogLevel, UnknownLogSetting, init_logging};
pub use metrics::Metrics;
