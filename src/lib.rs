//! Command Center keeps a running fleet of import schedules equal to a directory of YAML files,
//! and writes down every difference it finds or makes. `ARCHITECTURE.md` is the map.

pub mod core;

pub mod adapters;

pub mod settings;

pub mod telemetry;

pub mod app;

pub mod tasks;

pub mod http;

pub mod sandbox;

pub mod cli;
