//! Sockets that tasks wait for; lives on their shard.
//!
//! A connection that has become a task still waits with the other sockets of its shard: the one
//! poller is looked at by the clock while the shard is busy, where every wait through the ring of
//! the executor is a submission, a completion and an interrupt. A socket without a shard waits
//! through the ring.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use glommio::io::{PollState, PollableFd};
use slab::Slab;

use crate::net::sys_epoll::{Epoll, Ready};

/// What a task waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Bytes, or the end.
    Read,
    /// Room for bytes.
    Write,
}

/// One direction of one socket.
#[derive(Default)]
struct Edge {
    /// It has been reported, and not been found to be over since.
    ready: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
}

impl Edge {
    fn report(&self) {
        self.ready.set(true);
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        if self.ready.get() {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waiting = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// What is known of one socket.
#[derive(Default)]
struct Wait {
    read: Edge,
    write: Edge,
    /// The peer has ended its direction or the connection is broken: no report of something to
    /// read comes any more. What is written to it may still be taken.
    hung_up: Cell<bool>,
}

impl Wait {
    fn edge(&self, direction: Direction) -> &Edge {
        match direction {
            Direction::Read => &self.read,
            Direction::Write => &self.write,
        }
    }
}

/// The sockets of a shard that tasks wait for.
pub struct Waiters {
    epoll: Epoll,
    mark: u64,
    waits: RefCell<Slab<Rc<Wait>>>,
    woken: Cell<bool>,
    patient: Patience,
}

/// Held by a task while it waits for its peer and for nothing else but deadlines.
pub type Patience = Rc<()>;

impl Waiters {
    /// Waits with `epoll`, whose reports of these sockets carry `mark` in their tokens.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new(epoll: &Epoll, mark: u64) -> io::Result<Rc<Self>> {
        let (waits, woken) = (RefCell::default(), Cell::new(false));
        let patient = Patience::default();
        Ok(Rc::new(Self { epoll: epoll.try_clone()?, mark, waits, woken, patient }))
    }

    /// Takes one of their reports. One that is late, of a socket that is gone, may reach the next one
    /// in its place, which then finds out that it is not true.
    pub fn report(&self, ready: Ready) {
        let key = usize::try_from(ready.token & !self.mark).unwrap_or(usize::MAX);
        let Some(wait) = self.waits.borrow().get(key).cloned() else { return };
        self.woken.set(true);
        if ready.hung_up {
            wait.hung_up.set(true);
        }
        if ready.readable {
            wait.read.report();
        }
        if ready.writable || ready.hung_up {
            wait.write.report();
        }
    }

    /// Whether tasks have been woken since this was last asked.
    pub fn take_woken(&self) -> bool {
        self.woken.replace(false)
    }

    /// Tasks that wait for their peer and for nothing else but deadlines.
    pub fn patient(&self) -> usize {
        Rc::strong_count(&self.patient) - 1
    }
}

/// A non-blocking socket that a task waits for.
pub struct Awaited(Kind);

enum Kind {
    Shard(OfShard),
    /// What is polled is withdrawn before the socket is closed.
    Executor {
        read: PollState,
        write: PollState,
        fd: PollableFd<OwnedFd>,
    },
}

/// The socket is gone before it leaves the table, so that no report of it comes after.
struct OfShard {
    fd: Option<OwnedFd>,
    waiters: Rc<Waiters>,
    key: usize,
    wait: Rc<Wait>,
}

impl Drop for OfShard {
    fn drop(&mut self) {
        self.fd = None;
        self.waiters.waits.borrow_mut().remove(self.key);
    }
}

impl Awaited {
    /// Waits with the sockets of a shard.
    ///
    /// # Errors
    /// The poller refuses the socket.
    pub fn of_shard(fd: OwnedFd, waiters: &Rc<Waiters>) -> io::Result<Self> {
        let wait = Rc::new(Wait::default());
        let key = waiters.waits.borrow_mut().insert(Rc::clone(&wait));
        let mut socket = OfShard { fd: None, waiters: Rc::clone(waiters), key, wait };
        waiters.epoll.add_connection(fd.as_fd(), waiters.mark | key as u64)?;
        socket.fd = Some(fd);
        Ok(Self(Kind::Shard(socket)))
    }

    /// Waits through the ring of the executor.
    ///
    /// # Errors
    /// The executor cannot watch the socket.
    pub fn of_executor(fd: OwnedFd) -> io::Result<Self> {
        let fd = PollableFd::new(fd).map_err(io::Error::from)?;
        Ok(Self(Kind::Executor { read: PollState::new(), write: PollState::new(), fd }))
    }

    /// The socket.
    ///
    /// # Errors
    /// It has been taken.
    pub fn fd(&self) -> io::Result<BorrowedFd<'_>> {
        match &self.0 {
            Kind::Shard(socket) => socket
                .fd
                .as_ref()
                .map(AsFd::as_fd)
                .ok_or_else(|| io::ErrorKind::NotConnected.into()),
            Kind::Executor { fd, .. } => Ok(fd.get_ref().as_fd()),
        }
    }

    /// Ready when there may be something to read or room to write: whenever it has been reported,
    /// until the socket says otherwise, which is told with [`Awaited::blocked`] or
    /// [`Awaited::drained`].
    pub fn poll(&mut self, cx: &mut Context<'_>, direction: Direction) -> Poll<io::Result<()>> {
        match (&mut self.0, direction) {
            (Kind::Shard(socket), Direction::Read) if socket.wait.hung_up.get() => {
                Poll::Ready(Ok(()))
            }
            (Kind::Shard(socket), _) => socket.wait.edge(direction).poll(cx).map(Ok),
            (Kind::Executor { fd, read, .. }, Direction::Read) => {
                fd.poll_readable(cx, read).map_err(io::Error::from)
            }
            (Kind::Executor { fd, write, .. }, Direction::Write) => {
                fd.poll_writable(cx, write).map_err(io::Error::from)
            }
        }
    }

    /// Says that the task of this socket waits for its peer and for nothing else but deadlines, as
    /// long as what is returned lives.
    pub fn patience(&self) -> Option<Patience> {
        let Kind::Shard(socket) = &self.0 else { return None };
        Some(Rc::clone(&socket.waiters.patient))
    }

    /// The socket would have to be waited for.
    pub fn blocked(&self, direction: Direction) {
        if let Kind::Shard(socket) = &self.0 {
            socket.wait.edge(direction).ready.set(false);
            if direction == Direction::Read {
                // What has ended says so.
                socket.wait.hung_up.set(false);
            }
        }
    }

    /// The socket gave less than was asked for: that was all, but for its end if that has come.
    pub fn drained(&self) {
        if let Kind::Shard(socket) = &self.0 {
            socket.wait.read.ready.set(false);
        }
    }

    /// The socket, which nobody waits for any more.
    ///
    /// # Errors
    /// It has been taken.
    pub fn into_fd(self) -> io::Result<OwnedFd> {
        match self.0 {
            Kind::Shard(mut socket) => {
                let fd = socket.fd.take().ok_or(io::ErrorKind::NotConnected)?;
                socket.waiters.epoll.remove(fd.as_fd());
                Ok(fd)
            }
            Kind::Executor { read, write, fd } => {
                drop((read, write));
                Ok(fd.into_inner())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::task::Waker;

    const MARK: u64 = 1 << 40;

    struct Stand {
        epoll: Epoll,
        waiters: Rc<Waiters>,
    }

    impl Stand {
        fn new() -> Self {
            let epoll = Epoll::new().expect("a poller");
            let waiters = Waiters::new(&epoll, MARK).expect("another descriptor");
            Self { epoll, waiters }
        }

        fn pair(&self) -> (UnixStream, Awaited) {
            let (far, near) = UnixStream::pair().expect("a pair");
            near.set_nonblocking(true).expect("set");
            let near = Awaited::of_shard(near.into(), &self.waiters).expect("it is watched");
            (far, near)
        }

        /// Passes on what the poller has; how many reports.
        fn turn(&mut self) -> usize {
            let mut ready = Vec::new();
            self.epoll.poll(&mut ready);
            for report in &ready {
                assert_eq!(report.token & MARK, MARK);
                self.waiters.report(*report);
            }
            ready.len()
        }
    }

    fn is_ready(socket: &mut Awaited, direction: Direction) -> bool {
        socket.poll(&mut Context::from_waker(Waker::noop()), direction).is_ready()
    }

    #[test]
    fn who_waits_for_a_peer_alone_is_counted_while_it_does() {
        let stand = Stand::new();
        let (_far, near) = stand.pair();
        let (_other, later) = stand.pair();
        let (one, two) = (near.patience(), later.patience());
        assert_eq!(stand.waiters.patient(), 2);
        drop(one);
        assert_eq!(stand.waiters.patient(), 1);
        drop((later, two));
        assert_eq!(stand.waiters.patient(), 0);
    }

    #[test]
    fn what_is_reported_is_told_until_it_is_over() {
        let mut stand = Stand::new();
        let (mut far, mut near) = stand.pair();
        assert!(!is_ready(&mut near, Direction::Write), "nothing is reported yet");
        assert_eq!(stand.turn(), 1);
        assert!(stand.waiters.take_woken() && !stand.waiters.take_woken());
        assert!(is_ready(&mut near, Direction::Write) && !is_ready(&mut near, Direction::Read));

        far.write_all(b"a").expect("sent");
        assert_eq!(stand.turn(), 1);
        // There is no further report of what is left when only a part of it is read.
        for _ in 0..3 {
            assert!(is_ready(&mut near, Direction::Read));
        }
        near.drained();
        assert!(!is_ready(&mut near, Direction::Read));

        far.write_all(b"b").expect("sent");
        assert_eq!(stand.turn(), 1);
        near.blocked(Direction::Read);
        assert!(!is_ready(&mut near, Direction::Read) && is_ready(&mut near, Direction::Write));
        near.blocked(Direction::Write);
        assert!(!is_ready(&mut near, Direction::Write));
    }

    #[test]
    fn the_end_is_told_when_all_before_it_is_read() {
        let mut stand = Stand::new();
        let (far, mut near) = stand.pair();
        drop(far);
        stand.turn();
        assert!(is_ready(&mut near, Direction::Write));
        for _ in 0..3 {
            near.drained();
            assert!(is_ready(&mut near, Direction::Read));
        }
        // A report of another socket, which had the place before.
        near.blocked(Direction::Read);
        assert!(!is_ready(&mut near, Direction::Read));
    }

    #[test]
    fn who_leaves_is_not_reported_and_its_place_is_another_s() {
        let mut stand = Stand::new();
        let (mut far, near) = stand.pair();
        stand.turn();
        let mut socket = UnixStream::from(near.into_fd().expect("it was not taken"));
        far.write_all(b"c").expect("sent");
        assert_eq!(stand.turn(), 0);
        let mut byte = [0];
        assert_eq!(socket.read(&mut byte).expect("there is one"), 1);

        let (_far, one) = stand.pair();
        drop(one);
        assert_eq!((stand.turn(), stand.waiters.waits.borrow().len()), (0, 0));
        let late = Ready { token: MARK | 7, readable: true, writable: true, hung_up: true };
        assert!(stand.waiters.take_woken(), "of the one that left");
        stand.waiters.report(late);
        assert!(!stand.waiters.take_woken());
    }
}
