//! hearth-placement
