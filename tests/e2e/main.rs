//! End-to-end tests: the built server as a black box against real clients and hostile bytes.

mod api;
mod browser;
mod cores;
mod events;
mod hostile_http;
mod hostile_rtmp;
mod hostile_rtp;
mod hostile_rtsp;
mod lifecycle;
mod publish_play;
mod pull;
mod record;
mod reload;
mod rtsp;
mod rtsp_loss;
mod rtsp_tunnel;
mod segments;
mod slow;
mod start;
mod timeshift;
mod variants;
mod vod;
