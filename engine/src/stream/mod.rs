//! The stream core: logs, wires, mirrors, owners and timelines. It knows no protocol by name but
//! the formats its packager writes, and touches no socket.

mod carriage;
mod format;
mod log;
mod mirror;
mod packager;
#[expect(clippy::module_inception, reason = "the owner's side of a stream is the stream")]
mod stream;
mod subscriber;
mod sweep;
mod timeline;
mod wire;

pub use carriage::{Output, left_out};
pub use format::{Container, Format, PackagerOptions, SERVER_NAME, merge_of_query, wire_millis};
pub use log::{FrameLog, LogLimits};
pub use mirror::{Appended, Asked, Mirror};
pub use packager::Packager;
pub use stream::{Claim, NO_CONN, PublisherInfo, Stream, StreamSnapshot, SubscriberShard, Verdict};
pub use subscriber::Subscriber;
pub use sweep::Sweep;
pub use timeline::{Adjusted, Timeline};
pub use wire::{AWAIT_KEYFRAME, PAUSED, Slices, Viewer, Wire, WireLimits};
