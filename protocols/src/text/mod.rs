//! What text formats share: URIs that cannot end the field they stand in, URLs taken apart and
//! resolved, credentials, civil time.

mod basic;
mod date_time;
mod short;
mod uri;
mod url;

pub use basic::basic_credentials;
pub use date_time::date_time;
pub use short::{cut, hex, unhex};
pub use uri::{percent_decode, push_byte, push_uri};
pub use url::{
    credentials, query_parameter, resolve_reference, split_authority, split_query, split_url,
    split_user, without_user,
};
