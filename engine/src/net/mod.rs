//! What touches the operating system below the executor.

pub mod preflight;
