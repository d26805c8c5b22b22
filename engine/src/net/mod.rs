//! What touches the operating system and the wire below any protocol: raw system calls, the
//! poller, TLS, and the checks before the start.

pub mod awaited;
pub mod preflight;
pub mod reach;
pub mod resolve;
mod sealer;
pub mod sys;
pub mod sys_bell;
pub mod sys_cache;
pub mod sys_datagram;
pub mod sys_epoll;
pub mod sys_file;
pub mod sys_heap;
pub mod sys_host;
pub mod sys_serve;
pub mod sys_signal;
pub mod sys_socket;
pub mod sys_stage;
pub mod tls;
pub mod tls_client;
