//! hearth-frontend
