//! hearth-control
