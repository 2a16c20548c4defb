//! What the environments of one pool report.

use std::sync::{Arc, Mutex, Weak};

use hearth_worker::{Environment, EnvironmentEvents};

use crate::lock;
use crate::placement::{Inner, VersionPool};
use crate::pool::{Idled, Member, Was};
use crate::provisioned::Kept;

pub(crate) struct Events {
    placement: Weak<Inner>,
    pool: Arc<Mutex<VersionPool>>,
    /// Whose, when it is provisioned.
    kept: Option<Arc<Kept>>,
}

impl Events {
    pub fn new(placement: &Arc<Inner>, pool: Arc<Mutex<VersionPool>>) -> Self {
        Events { placement: Arc::downgrade(placement), pool, kept: None }
    }

    pub fn of_kept(placement: &Arc<Inner>, kept: Arc<Kept>) -> Self {
        Events { placement: Arc::downgrade(placement), pool: kept.pool.clone(), kept: Some(kept) }
    }

    fn keeps(&self, placement: &Inner, environment: &Environment) -> bool {
        let wanted = match &self.kept {
            Some(kept) => kept.keeps(environment, placement),
            None => placement.functions.is_current(&environment.function().key),
        };
        wanted && !placement.is_draining()
    }

    fn ended(&self, placement: &Inner, environment: &Environment) {
        if let Some(kept) = &self.kept {
            kept.ended(environment, placement);
        }
    }
}

impl EnvironmentEvents for Events {
    fn idle(&self, environment: &Environment) {
        let Some(placement) = self.placement.upgrade() else { return };
        let now = placement.now();
        let keep = self.keeps(&placement, environment);
        loop {
            let idled = lock(&self.pool).idle(environment.clone(), keep, now);
            match idled {
                Idled::Assign(turn, seat) => match seat.send(turn) {
                    Ok(()) => return,
                    // The call is there no more: the environment is idle again.
                    Err(_) => continue,
                },
                Idled::Retire(environment) => {
                    self.ended(&placement, &environment);
                    return placement.shut_down(vec![environment]);
                }
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
            self.ended(&placement, environment);
        }
    }
}
