//! The way out of an environment's network: the sandbox has one end, `hearth-egress` serves the other.

use std::io;
use std::sync::Arc;

use hearth_egress::{Egress, Gateway, Link, Refused, Witness};
use hearth_model::{BoxFuture, PlatformRecord};
use hearth_sandbox::Tunnel;

use crate::state::Shared;

/// Serves it until what is answered is dropped. Needs a running async runtime.
pub(crate) fn serve(egress: Egress, tunnel: Tunnel, shared: Arc<Shared>) -> Gateway {
    Gateway::open(egress, Way(tunnel), Log(shared))
}

struct Way(Tunnel);

impl Link for Way {
    fn readable(&self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(self.0.readable())
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.receive(buffer)
    }

    fn send(&self, packet: &[u8]) -> io::Result<()> {
        self.0.send(packet)
    }
}

/// What was refused is said in the function's own log.
struct Log(Arc<Shared>);

impl Witness for Log {
    fn refused(&self, refused: &Refused) {
        self.0.write(&PlatformRecord::Blocked(refused.to_string()));
    }
}
