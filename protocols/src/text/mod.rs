//! What text formats share: URIs that cannot end the field they stand in, URLs taken apart, civil
//! time.

mod date_time;
mod uri;
mod url;

pub use date_time::date_time;
pub use uri::push_uri;
pub use url::{query_parameter, split_authority, split_query, split_url};
