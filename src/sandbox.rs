//! The practice AccuLynx.
