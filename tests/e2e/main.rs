//! End-to-end tests: the built server as a black box against real clients and hostile bytes.

mod browser;
mod cores;
mod hostile_http;
mod hostile_rtmp;
mod lifecycle;
mod publish_play;
mod record;
mod rtsp_loss;
mod segments;
mod slow;
mod start;
mod timeshift;
mod variants;
mod vod;
