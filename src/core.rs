//! What is decided: plain functions of values. Nothing here does I/O, reads a clock, the
//! environment or randomness, or is async.

pub mod model;

pub mod policy;

pub mod run;

pub mod retention;

pub mod copies;

pub mod heal;

pub mod volume;

pub mod desired;

pub mod timing;

pub mod audit;

pub mod replica;

pub mod plan;

pub mod presets;

pub mod selection;

pub mod row;

pub mod fleet;

pub mod windows;

pub mod forecast;

pub mod fair;

pub mod missed;

pub mod access;

pub mod mask;

pub mod rest;

pub mod history;

pub mod legacy;

pub mod singer;

pub mod watch;
