//! End-to-end tests: the built server as a black box against real clients and hostile bytes.
