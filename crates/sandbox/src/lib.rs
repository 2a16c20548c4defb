//! Confinement of processes: the port, and the drivers behind it.

pub mod driver;
