//! End-to-end tests: the built server as a black box against real clients and hostile bytes.

mod auth;
mod auth_hook;
mod auth_hook_faults;
mod browser;
mod cores;
mod edge;
mod forward;
mod hostile_http;
mod hostile_rtmp;
mod hostile_rtp;
mod hostile_rtsp;
mod lifecycle;
mod publish_play;
mod pull;
mod pull_ways;
mod record;
mod rtsp;
mod rtsp_loss;
mod rtsp_multicast;
mod rtsp_tunnel;
mod segments;
mod slow;
mod start;
mod timeshift;
mod variants;
mod vod;
