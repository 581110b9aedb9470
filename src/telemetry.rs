//! What the program says of itself: metrics for Prometheus, log lines for people and machines.

/// Counters, gauges and histograms, registered once and passed explicitly.
pub struct Metrics;
