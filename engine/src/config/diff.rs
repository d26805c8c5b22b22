//! Which changes a reload cannot apply.

use super::model::{Config, Rtsp};

/// Options that differ and need a restart; empty means the new configuration can be swapped in.
pub fn diff_reloadable(old: &Config, new: &Config) -> Vec<&'static str> {
    let changed = changes(old, new);
    changed.into_iter().filter(|(_, differs)| *differs).map(|(path, _)| path).collect()
}

/// Every option that needs a restart, and whether it differs.
fn changes(old: &Config, new: &Config) -> [(&'static str, bool); 29] {
    let (engine, other) = (&old.engine, &new.engine);
    let (rtmp, rtsp, http) = (&old.rtmp, &old.rtsp, &old.http);
    let groups = |rtsp: &Rtsp| rtsp.multicast.map(|multicast| multicast.groups);
    let port = |rtsp: &Rtsp| rtsp.multicast.map(|multicast| multicast.port);
    let ttl = |rtsp: &Rtsp| rtsp.multicast.map(|multicast| multicast.ttl);
    let interface = |rtsp: &Rtsp| rtsp.multicast.map(|multicast| multicast.interface);
    [
        ("engine/cores", engine.cores != other.cores),
        ("engine/egress", engine.egress != other.egress),
        ("engine/ring_depth", engine.ring_depth != other.ring_depth),
        ("engine/control_depth", engine.control_depth != other.control_depth),
        ("engine/stream_log_kb", engine.stream_log_bytes != other.stream_log_bytes),
        ("engine/stream_log_ms", engine.stream_log_ms != other.stream_log_ms),
        ("engine/shard_log_mb", engine.shard_log_bytes != other.shard_log_bytes),
        ("engine/viewer_pending_kb", engine.viewer_pending_bytes != other.viewer_pending_bytes),
        ("auth/token_file", old.auth.token_file != new.auth.token_file),
        ("rtmp/enable", rtmp.enable != new.rtmp.enable),
        ("rtmp/ip", rtmp.ip != new.rtmp.ip),
        ("rtmp/port", rtmp.port != new.rtmp.port),
        ("rtmp/ssl", rtmp.ssl != new.rtmp.ssl),
        ("rtsp/enable", rtsp.enable != new.rtsp.enable),
        ("rtsp/ip", rtsp.ip != new.rtsp.ip),
        ("rtsp/port", rtsp.port != new.rtsp.port),
        ("rtsp/ssl", rtsp.ssl != new.rtsp.ssl),
        ("rtsp/multicast", groups(rtsp) != groups(&new.rtsp)),
        ("rtsp/multicast@port", port(rtsp) != port(&new.rtsp)),
        ("rtsp/multicast@ttl", ttl(rtsp) != ttl(&new.rtsp)),
        ("rtsp/multicast@interface", interface(rtsp) != interface(&new.rtsp)),
        ("rtp@min", rtsp.ports.0 != new.rtsp.ports.0),
        ("rtp@max", rtsp.ports.1 != new.rtsp.ports.1),
        ("http/enable", http.enable != new.http.enable),
        ("http/ip", http.ip != new.http.ip),
        ("http/port", http.port != new.http.port),
        ("http/ssl", http.ssl != new.http.ssl),
        ("http/sport", http.tls_port != new.http.tls_port),
        ("http/rec_dir", old.record.dir != new.record.dir),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::options::table;

    #[test]
    fn every_restart_option_of_the_table_is_compared() {
        let config = Config::default();
        let compared: Vec<_> =
            changes(&config, &config).into_iter().map(|(path, _)| path).collect();
        let listed: Vec<_> = table().filter(|opt| !opt.reloadable).map(|opt| opt.path).collect();
        assert_eq!(compared, listed);
    }

    #[test]
    fn only_restart_options_are_named() {
        let old = Config::default();
        let mut new = old.clone();
        new.rtmp.chunk_size = 4096;
        assert!(diff_reloadable(&old, &new).is_empty());
        new.rtmp.port = 1936;
        new.engine.cores = crate::config::model::Cores::Count(1);
        assert_eq!(diff_reloadable(&old, &new), ["engine/cores", "rtmp/port"]);
    }
}
