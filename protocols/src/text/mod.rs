//! What text formats share: URIs that cannot end the field they stand in, civil time.

mod date_time;
mod uri;

pub use date_time::date_time;
pub use uri::push_uri;
