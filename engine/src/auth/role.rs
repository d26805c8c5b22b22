//! What a peer can be let in for.

use std::fmt;

/// What a peer wants to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Sends a stream.
    Publisher,
    /// Receives a stream, live or recorded.
    Player,
    /// Reads or changes the state of the server.
    Api,
    /// Puts a file below `/vod/`.
    Upload,
    /// Fetches a file from below `/vod/`.
    Download,
}

impl Role {
    /// All of them, in order.
    pub const ALL: [Self; 5] =
        [Self::Publisher, Self::Player, Self::Api, Self::Upload, Self::Download];

    /// As it stands in questions, the configuration and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Publisher => "publisher",
            Self::Player => "player",
            Self::Api => "api",
            Self::Upload => "upload",
            Self::Download => "download",
        }
    }

    /// The role of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Some roles.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Roles(u8);

impl Roles {
    /// No role.
    pub const NONE: Self = Self(0);
    /// Every role.
    pub const ALL: Self = Self(0b1_1111);

    /// These.
    #[must_use]
    pub fn of(roles: impl IntoIterator<Item = Role>) -> Self {
        Self(roles.into_iter().fold(0, |bits, role| bits | 1 << role as u8))
    }

    /// The role is one of them.
    #[must_use]
    pub fn contains(self, role: Role) -> bool {
        self.0 & (1 << role as u8) != 0
    }

    /// These and those.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// There is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// In order.
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| self.contains(*role))
    }
}

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_sets_agree() {
        for role in Role::ALL {
            assert_eq!(Role::parse(role.name()), Some(role));
            assert!(Roles::ALL.contains(role) && !Roles::NONE.contains(role));
        }
        assert_eq!(Role::parse("Player"), None);
        let some = Roles::of([Role::Api, Role::Player]);
        assert_eq!(some.iter().collect::<Vec<_>>(), [Role::Player, Role::Api]);
        assert_eq!(some.and(Roles::of([Role::Upload])).iter().count(), 3);
    }
}
