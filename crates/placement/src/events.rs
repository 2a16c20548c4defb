//! What the environments of one pool report.

use std::sync::{Arc, Mutex, Weak};

use hearth_worker::{Environment, EnvironmentEvents};

use crate::lock;
use crate::placement::{Inner, VersionPool};
use crate::pool::{Idled, Member, Was};

pub(crate) struct Events {
    placement: Weak<Inner>,
    pool: Arc<Mutex<VersionPool>>,
}

impl Events {
    pub fn new(placement: &Arc<Inner>, pool: Arc<Mutex<VersionPool>>) -> Self {
        Events { placement: Arc::downgrade(placement), pool }
    }
}

impl EnvironmentEvents for Events {
    fn idle(&self, environment: &Environment) {
        let Some(placement) = self.placement.upgrade() else { return };
        let now = placement.now();
        let keep = !placement.is_draining() && placement.functions.is_current(&environment.function().key);
        loop {
            let idled = lock(&self.pool).idle(environment.clone(), keep, now);
            match idled {
                Idled::Assign(turn, seat) => match seat.send(turn) {
                    Ok(()) => return,
                    // The call is there no more: the environment is idle again.
                    Err(_) => continue,
                },
                Idled::Retire(environment) => return placement.shut_down(vec![environment]),
                Idled::Parked => return placement.make_room(),
                Idled::Ignored => return,
            }
        }
    }

    fn gone(&self, environment: &Environment) {
        let was = lock(&self.pool).gone(environment.id());
        if let Some(placement) = self.placement.upgrade() {
            placement.memory.release(environment.memory(), was == Some(Was::Leaving));
            placement.gone.notify_waiters();
        }
    }
}
