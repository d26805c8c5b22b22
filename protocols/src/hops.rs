//! Which servers of one kind a stream has passed: what keeps forwards and pulls from going round.
//!
//! Each process has a [`NodeId`]. A server that forwards or pulls names every node the stream, or
//! the request for it, has passed, itself last; peers of another kind ignore it. How it travels
//! depends on the protocol: a property of the RTMP command object, a header of HTTP and RTSP.

use std::fmt;
use std::str::FromStr;

/// Most nodes a stream may pass.
pub const HOPS_MAX: usize = 20;
/// Header of HTTP and RTSP requests that carries [`Hops`].
pub const HEADER: &str = "X-Smart-Hops";

/// One server process; 16 hexadecimal digits in text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for NodeId {
    type Err = BadHops;

    fn from_str(text: &str) -> Result<Self, BadHops> {
        let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = digits.then(|| u64::from_str_radix(text, 16).ok()).flatten();
        id.map(Self).ok_or(BadHops)
    }
}

/// The nodes passed so far, in order; empty for what comes from elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hops(Vec<NodeId>);

/// The text is no list of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a list of at most {HOPS_MAX} nodes")]
pub struct BadHops;

/// Why a stream that has passed these nodes must not pass another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HopError {
    /// It has been there.
    #[error("it has been here already")]
    Loop,
    /// It has passed [`HOPS_MAX`] nodes.
    #[error("it has passed {HOPS_MAX} servers already")]
    TooMany,
}

impl Hops {
    /// Whether a stream that has come this way may pass `node`.
    ///
    /// # Errors
    /// Why not.
    pub fn admit(&self, node: NodeId) -> Result<(), HopError> {
        if self.0.contains(&node) {
            return Err(HopError::Loop);
        }
        if self.0.len() >= HOPS_MAX { Err(HopError::TooMany) } else { Ok(()) }
    }

    /// With one more node; the list stays as it is once it is full.
    #[must_use]
    pub fn with(&self, node: NodeId) -> Self {
        let mut hops = self.clone();
        if hops.0.len() < HOPS_MAX {
            hops.0.push(node);
        }
        hops
    }

    /// It comes from elsewhere.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The nodes, in order.
    pub fn nodes(&self) -> &[NodeId] {
        &self.0
    }
}

impl fmt::Display for Hops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, node) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{node}")?;
        }
        Ok(())
    }
}

impl FromStr for Hops {
    type Err = BadHops;

    fn from_str(text: &str) -> Result<Self, BadHops> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let mut nodes = Vec::new();
        for part in text.split(',') {
            if nodes.len() >= HOPS_MAX {
                return Err(BadHops);
            }
            nodes.push(part.trim().parse()?);
        }
        Ok(Self(nodes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_survives_the_wire_and_nothing_else_is_one() {
        let hops = Hops::default().with(NodeId(1)).with(NodeId(u64::MAX));
        assert_eq!(hops.to_string(), "0000000000000001,ffffffffffffffff");
        assert_eq!(hops.to_string().parse(), Ok(hops));
        assert_eq!("".parse(), Ok(Hops::default()));
        let long = vec!["0000000000000001"; HOPS_MAX + 1].join(",");
        for bad in ["1", ",", "000000000000000g", "+00000000000000f", long.as_str()] {
            assert_eq!(bad.parse::<Hops>(), Err(BadHops), "{bad}");
        }
    }

    #[test]
    fn nobody_is_passed_twice_nor_more_than_twenty() {
        let ring = (0..HOPS_MAX as u64).fold(Hops::default(), |hops, id| hops.with(NodeId(id)));
        assert_eq!(Hops::default().admit(NodeId(7)), Ok(()));
        assert_eq!(ring.admit(NodeId(7)), Err(HopError::Loop));
        assert_eq!(ring.admit(NodeId(99)), Err(HopError::TooMany));
        assert_eq!(ring.with(NodeId(99)), ring);
    }
}
