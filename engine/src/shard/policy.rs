//! A new policy takes the place of the old one: only what differs is touched.

use std::sync::Arc;
use std::time::Instant;

use crate::policy::ActivePolicy;
use crate::shard::Shard;

impl Shard {
    /// Puts new rules in force. Pulls and forwards that are the same in both go on undisturbed;
    /// those that are gone end, those that are new begin.
    pub fn apply_policy(&mut self, policy: &Arc<ActivePolicy>, now: Instant) {
        self.policy = Arc::clone(policy);
        self.edge.renew(&policy.origins);
        self.sync_pulls(now);
        self.forwards.renew();
        self.tend_pulls(now);
        self.tend_forwards(now);
    }
}
