//! The driver of a host on which functions cannot be confined: it makes none.

use std::sync::Arc;

use hearth_model::BoxFuture;

use crate::driver::{Class, Driver, Error, Prepared, Promise};
use crate::launcher::Launcher;

pub struct Unavailable {
    reason: Arc<str>,
    /// It lives on: that it ends means something else.
    _launcher: Launcher,
}

impl Unavailable {
    pub fn new(error: &Error, launcher: Launcher) -> Self {
        Unavailable { reason: error.to_string().into(), _launcher: launcher }
    }
}

impl Driver for Unavailable {
    fn prepare(&self, _: Class) -> BoxFuture<'_, Result<Box<dyn Prepared>, Error>> {
        Box::pin(async { Err(Error::Unconfined { reason: self.reason.clone() }) })
    }

    fn leads_out(&self) -> bool {
        false
    }

    fn starts_ahead(&self) -> bool {
        false
    }

    fn promises(&self) -> Vec<Promise> {
        crate::promises::none(&self.reason)
    }

    fn probe(&self) -> BoxFuture<'_, Result<Vec<Promise>, Error>> {
        Box::pin(async { Err(Error::Unconfined { reason: self.reason.clone() }) })
    }

    fn closed(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}
