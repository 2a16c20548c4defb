//! hearth-runtime-api
