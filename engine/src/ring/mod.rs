//! Bounded lock-free SPSC rings between shards for media, bounded queues for control, and the
//! coalesced wake-up both share.
//!
//! Messages are pushed without a wake-up; the consumer is kicked once per batch, and only when it
//! has said that it is parked. A core that is working is never interrupted.

mod mesh;
mod message;
mod park;

pub use mesh::{Mesh, MeshEnd, Remote};
pub use message::{
    Asker, ControlMessage, Fault, Grant, Ingested, MediaItem, MediaMessage, MediaTarget, ShardId,
    Token,
};
pub use park::Park;
