//! hearth-observe
