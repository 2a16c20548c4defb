//! Event patterns: the language in which event source mappings say what they want of their records (spec 6.9), and event
//! buses what their rules match.
//!
//! - `json`: an event as a tree, numbers as they are written
//! - `compile`: a pattern's text, read once; `rule`: what a pattern may say of one value
//! - `pattern`: one pattern against one event
//! - `index`: many patterns against one event, without looking at each
//!
//! Knows nothing of where events come from. Every text is taken to be hostile: depth and size are bounded.

mod compile;
mod index;
mod json;
mod pattern;
mod rule;

pub use compile::PatternError;
pub use index::Index;
pub use json::{JsonError, Node};
pub use pattern::Pattern;
