//! Containers: media in the forms files and byte streams carry it.

pub mod flv;
pub mod fmp4;
