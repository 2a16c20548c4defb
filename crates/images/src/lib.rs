//! hearth-images
