//! hearth-identity
