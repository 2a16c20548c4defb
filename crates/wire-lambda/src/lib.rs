//! hearth-wire-lambda
