//! IAM policy documents: read from JSON, and evaluated. Pure: who asks what of what, and the facts of the request, are
//! given; the answer is a decision and the statement that decided.
//!
//! - `document`: what a document says
//! - `condition`: the operators of conditions
//! - `evaluate`: the decision
//! - `glob`: `*` and `?`
//!
//! Knows no account, no store and no operation. Facts are from AWS's reference of the policy language.

mod condition;
mod document;
mod evaluate;
mod glob;

pub use document::{Document, Effect, Kind, ParseError, Statement, statements};
pub use evaluate::{Decision, Facts, Principal, Request, evaluate};
