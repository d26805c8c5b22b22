//! Who may do what: publish, play, use the API, upload, download.
//!
//! | step | where | what it does |
//! | ---- | ----- | ------------ |
//! | [`Question`] | made by whoever serves the peer | role, protocol, address, URL, what is shown |
//! | [`decide()`] | pure | allows, denies, or says who has to be asked |
//! | [`desk`](Desk) | shard that the question hashes to | asks once what many ask at the same time |
//! | [`exchange`](hook::exchange) | there, as a task | one HTTP exchange under a deadline |
//! | [`hash`] | a thread of its own | compares passwords with Argon2 hashes |
//!
//! Nothing here is on the path of frames: a session is judged when it begins, and again every
//! `auth/recheck`. Whatever goes wrong on the way to an answer is a refusal of who wants to begin,
//! and leaves alone what runs. What a shard keeps is made from [`Rules`] alone, which are made from
//! the configuration in [`Rules::load`]: new rules replace old ones, and whoever waits is judged by
//! them; sessions stay.

mod address;
mod admittance;
mod answer;
mod breaker;
mod decide;
mod desk;
mod dialect;
mod failures;
pub mod hash;
pub mod hook;
mod jwt;
mod question;
mod role;
mod rules;
mod sessions;
mod signed;
mod token_file;
#[cfg(test)]
#[path = "testdata/tokens.rs"]
mod tokens;

pub use address::{Networks, is_private};
pub use admittance::Admittance;
pub use answer::{Answer, Cause};
pub use breaker::Breaker;
pub use decide::{By, Decision, Judging, Reason, Referral, decide};
pub use desk::{Desk, Step, Waiting};
pub use dialect::{Target, target};
pub use failures::Failures;
pub use question::{Query, Question, Shown, Via};
pub use role::{Role, Roles};
pub use rules::{BadRules, Rules};
pub use sessions::{Sessions, session_key, session_prefix};
pub use token_file::ensure as ensure_token;
