//! Going by other files while it runs: the one place where what was derived from the configuration
//! is derived again. Sessions and streams that the difference does not concern notice nothing.
//!
//! Most options are read where they are used and need nothing here. What a session or a wire was
//! made with stays with it: the new value holds for those made from now on.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use protocols::rtp::NtpTime;

use super::{RTP_SEED, Shard, Shared};
use crate::auth::Rules;
use crate::config::Config;
use crate::reload::Reconfigured;
use crate::service::rtmp::RtmpOptions;
use crate::service::rtsp::RtspOptions;
use crate::stream::PackagerOptions;

/// What packagers of a shard have in common; `seed` is that of the shard.
pub(super) fn packager_options(config: &Config, shared: &Shared, seed: u64) -> PackagerOptions {
    PackagerOptions {
        type3_extended_timestamp: config.rtmp.type3_extended_timestamp,
        legacy_h265_id: config.rtmp.legacy_h265_id,
        rtp_packet_bytes: config.rtsp.packet_bytes,
        rtp_seed: seed ^ RTP_SEED,
        ntp_at_zero: NtpTime::from_unix(Duration::from_millis(shared.started_unix_ms)),
    }
}

impl Shard {
    /// Goes by other files, and says so.
    pub(super) fn on_reconfigured(&mut self, new: &Reconfigured, now: Instant) {
        self.events = new.events.clone();
        let same_rules = Arc::ptr_eq(&self.auth.rules, &new.rules);
        if !same_rules || !Arc::ptr_eq(&self.config, &new.config) {
            self.reconfigure(Arc::clone(&new.config), &new.rules, now);
        }
        if !Arc::ptr_eq(&self.policy, &new.policy) {
            self.apply_policy(&new.policy, now);
        }
        self.shared.applied[self.id.index()].store(new.generation, Ordering::Release);
    }

    /// Goes by another configuration; what needs a restart is the same in it.
    pub fn reconfigure(&mut self, new: Arc<Config>, rules: &Arc<Rules>, now: Instant) {
        let rtp_seed = self.options.rtp_seed ^ RTP_SEED;
        self.options = packager_options(&new, &self.shared, rtp_seed);
        self.rtmp_options = RtmpOptions::new(&new, self.shared.ports.http, self.shared.node);
        self.rtsp_options = RtspOptions::new(&new, rules, self.shared.ports.http);
        self.plane.window.set_mode(new.elapse, now);
        let old = std::mem::replace(&mut self.config, new);
        self.shared.config = Arc::clone(&self.config);
        if !Arc::ptr_eq(&self.auth.rules, rules) {
            self.apply_rules(Arc::clone(rules), now);
        }
        if old.vhosts != self.config.vhosts {
            self.forwards.renew();
        }
        let limits = self.wire_limits();
        for (_, mirror) in &mut self.mirrors {
            mirror.wires.iter_mut().for_each(|(_, wire)| wire.set_limits(limits));
        }
        let rules = |config: &Config| (config.rtmp.rec_app.clone(), config.record.patterns.clone());
        if rules(&old) != rules(&self.config) {
            self.follow_record_rules(&old, now);
        }
        if old.http.segment_always != self.config.http.segment_always {
            // Those that are wanted are marked again by the tick.
            for (_, stream) in &mut self.streams {
                stream.feeds.iter_mut().for_each(|feed| feed.always = false);
            }
        }
    }

    /// Begins and ends recordings of streams that are live, where the rules now say otherwise.
    fn follow_record_rules(&mut self, old: &Config, now: Instant) {
        let indices: Vec<usize> = self.streams.iter().map(|(index, _)| index).collect();
        for index in indices {
            let stream = &mut self.streams[index];
            let (app, name) = (stream.key.app(), stream.key.name());
            match (old.records(app, name), self.config.records(app, name)) {
                (true, false) => {
                    tracing::info!(key = %stream.key, "no longer recorded");
                    stream.takers.retain(|taker| !taker.is_recorder());
                }
                (false, true) if stream.publisher.is_some() => self.record(index, now),
                _ => {}
            }
        }
    }
}
