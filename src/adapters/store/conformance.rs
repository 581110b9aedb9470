//! What every store must do, as checks that any engine can be put through.
