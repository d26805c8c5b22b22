//! Which changes a reload cannot apply.

use super::model::Config;

/// Options that differ and need a restart; empty means the new configuration can be swapped in.
pub fn diff_reloadable(old: &Config, new: &Config) -> Vec<&'static str> {
    let changed = changes(old, new);
    changed.into_iter().filter(|(_, differs)| *differs).map(|(path, _)| path).collect()
}

/// Every option that needs a restart with its field: how it is compared, and how it is kept.
macro_rules! restart_options {
    ($($path:literal => $($field:tt).+;)+) => {
        /// Every option that needs a restart, and whether it differs.
        fn changes(old: &Config, new: &Config) -> Vec<(&'static str, bool)> {
            vec![$(($path, old.$($field).+ != new.$($field).+)),+]
        }

        /// The new configuration as far as it can be swapped in: what needs a restart stays as it
        /// is in the old one.
        #[must_use]
        pub fn keep_restart_options(old: &Config, mut new: Config) -> Config {
            $(new.$($field).+.clone_from(&old.$($field).+);)+
            new
        }
    };
}

restart_options! {
    "engine/cores" => engine.cores;
    "engine/egress" => engine.egress;
    "engine/ring_depth" => engine.ring_depth;
    "engine/control_depth" => engine.control_depth;
    "engine/stream_log_kb" => engine.stream_log_bytes;
    "engine/stream_log_ms" => engine.stream_log_ms;
    "engine/shard_log_mb" => engine.shard_log_bytes;
    "engine/viewer_pending_kb" => engine.viewer_pending_bytes;
    "auth/token_file" => auth.token_file;
    "rtmp/enable" => rtmp.enable;
    "rtmp/ip" => rtmp.ip;
    "rtmp/port" => rtmp.port;
    "rtmp/ssl" => rtmp.ssl;
    "rtsp/enable" => rtsp.enable;
    "rtsp/ip" => rtsp.ip;
    "rtsp/port" => rtsp.port;
    "rtsp/ssl" => rtsp.ssl;
    "rtsp/multicast" => rtsp.multicast;
    "rtsp/multicast@port" => rtsp.multicast;
    "rtsp/multicast@ttl" => rtsp.multicast;
    "rtsp/multicast@interface" => rtsp.multicast;
    "rtp@min" => rtsp.port_min;
    "rtp@max" => rtsp.port_max;
    "http/enable" => http.enable;
    "http/ip" => http.ip;
    "http/port" => http.port;
    "http/ssl" => http.ssl;
    "http/sport" => http.tls_port;
    "http/rec_dir" => record.dir;
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
        let kept = keep_restart_options(&old, new);
        assert_eq!((kept.rtmp.port, kept.rtmp.chunk_size), (old.rtmp.port, 4096));
        assert!(diff_reloadable(&old, &kept).is_empty());
    }
}
