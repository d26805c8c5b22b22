//! What a session was let in for, kept for as long as it runs: as small as it can be, for there are
//! as many as there are viewers.

use std::net::IpAddr;
use std::time::Instant;

use protocols::media::StreamKey;

use super::{Query, Question, Role, Shown, Via};

/// A question that was answered: it is asked again in time, and not for the same twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admittance {
    /// The stream.
    pub key: StreamKey,
    /// When it is asked again, if ever.
    pub recheck_at: Option<Instant>,
    /// Number of the rules by which it need not be asked about the same once more.
    pub good_for_more: Option<u64>,
    role: Role,
    via: Via,
    at_home: bool,
    peer: IpAddr,
    /// What it said beyond the name of the stream, if anything.
    said: Option<Box<Said>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    resource: String,
    path: String,
    query: Query,
    shown: Shown,
}

impl Admittance {
    /// Of a question about a stream; it is not asked again unless that is set.
    #[must_use]
    pub fn new(question: Question, key: StreamKey) -> Self {
        debug_assert!(!question.unasked && !question.operates, "a stream is asked about");
        let Question { role, via, at_home, peer, resource, path, query, shown, .. } = question;
        let said = Said { resource, path, query, shown };
        let said = (said != Said::nothing_about(&key)).then(|| Box::new(said));
        Self { key, recheck_at: None, good_for_more: None, role, via, at_home, peer, said }
    }

    /// The question.
    #[must_use]
    pub fn question(&self) -> Question {
        let said = self.said.as_deref().cloned();
        let Said { resource, path, query, shown } =
            said.unwrap_or_else(|| Said::nothing_about(&self.key));
        let Self { role, via, at_home, peer, .. } = *self;
        let (unasked, operates) = (false, false);
        Question { role, via, peer, at_home, resource, path, query, shown, unasked, operates }
    }

    /// It is good for that, too, by the rules of that number.
    #[must_use]
    pub fn covers(&self, role: Role, key: &StreamKey, rules: u64) -> bool {
        self.good_for_more == Some(rules) && self.role == role && self.key == *key
    }

    /// The interval is another, which would be over at `next` if it began now; `None`: there is none.
    /// Who was to be asked about earlier still is.
    pub fn recheck_by(&mut self, next: Option<Instant>) {
        self.recheck_at = next.map(|next| self.recheck_at.map_or(next, |at| at.min(next)));
    }
}

impl Said {
    /// What everybody says who names a stream.
    fn nothing_about(key: &StreamKey) -> Self {
        let resource = format!("{}/{}", key.app(), key.name());
        let path = format!("/{resource}");
        Self { resource, path, query: Query::default(), shown: Shown::Nothing }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn key() -> StreamKey {
        StreamKey::new("", "live", "stream").expect("a name")
    }

    #[test]
    fn the_question_is_kept_whatever_was_said() {
        let plain = Question::example("");
        for question in [
            plain.clone(),
            Question::example("token=a"),
            Question { path: "/live/x.flv".to_owned(), ..plain.clone() },
            Question { shown: Shown::of_header("Basic dTpw"), ..plain.clone() },
        ] {
            assert_eq!(Admittance::new(question.clone(), key()).question(), question);
        }
        assert_eq!(Admittance::new(plain, key()).said, None);
        assert!(size_of::<Admittance>() <= 88, "{}", size_of::<Admittance>());
    }

    #[test]
    fn an_admittance_is_one_of_its_rules() {
        let mut held = Admittance::new(Question::example(""), key());
        held.good_for_more = Some(7);
        assert!(held.covers(Role::Player, &key(), 7));
        assert!(!held.covers(Role::Player, &key(), 8));
        assert!(!held.covers(Role::Publisher, &key(), 7));
        held.good_for_more = None;
        assert!(!held.covers(Role::Player, &key(), 7));
        let now = crate::clock::now();
        let [soon, late] = [1, 9].map(|seconds| Some(now + Duration::from_secs(seconds)));
        for (next, expected) in [(late, late), (soon, soon), (late, soon), (None, None)] {
            held.recheck_by(next);
            assert_eq!(held.recheck_at, expected);
        }
    }
}
