//! The desired directory: list it, read it, watch it, and exchange one file for another safely.
