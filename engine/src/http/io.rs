//! A socket as the HTTP library wants it, with TLS in between where the connection speaks it.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use futures_lite::future::poll_fn;
use hyper::rt::{Read, ReadBufCursor, Write};

use crate::net::awaited::{Awaited, Direction, Patience};
use crate::net::sys::{self, Half};
use crate::net::sys_serve;
use crate::net::tls::TlsCodec;

/// Bytes asked of the socket at once.
const READ_BYTES: usize = 16 * 1024;
thread_local! {
    /// Where the reads of a shard land, one after the other.
    static READ: RefCell<Box<[u8; READ_BYTES]>> = RefCell::new(Box::new([0; READ_BYTES]));
}

/// Plaintext encrypted at once; the rest waits with the caller, so one record batch bounds memory.
const ENCRYPT_BYTES: usize = 64 * 1024;
/// Reads without plaintext before other tasks get their turn.
const FRUITLESS_READS_MAX: usize = 16;

/// What the driver of a connection watches while the HTTP library owns its [`Io`].
pub(crate) struct Flow {
    /// Bytes the socket gave.
    pub(crate) bytes_in: Cell<u64>,
    /// Bytes the socket took.
    pub(crate) bytes_out: Cell<u64>,
    /// The last flush completed and nothing was written since.
    pub(crate) flushed: Cell<bool>,
    /// When the first bytes came in since this was last cleared.
    pub(crate) first_input: Cell<Option<Instant>>,
    /// When the socket was first offered bytes after a flush, or had taken some when that was last
    /// looked at.
    last_output: Cell<Instant>,
    /// It has taken some since then.
    took: Cell<bool>,
}

impl Flow {
    fn note_input(&self) {
        if self.first_input.get().is_none() {
            self.first_input.set(Some(Instant::now()));
        }
    }

    fn begin_output(&self) {
        if self.flushed.replace(false) {
            self.last_output.set(Instant::now());
        }
    }

    /// When the socket last took bytes, as far as somebody has looked, or was first offered some
    /// after a flush. The clock is not asked for each send: while there is no wait between two of
    /// them, nobody wants to know.
    pub(crate) fn last_output(&self) -> Instant {
        if self.took.replace(false) {
            self.last_output.set(Instant::now());
        }
        self.last_output.get()
    }
}

/// One connection: descriptor, optional TLS, and bytes that were read but not yet asked for.
pub struct Io {
    socket: Option<Awaited>,
    tls: Option<TlsCodec>,
    plain: BytesMut,
    cipher: Vec<u8>,
    cipher_sent: usize,
    eof: bool,
    flow: Rc<Flow>,
}

impl Io {
    /// Wraps a socket. `prefix` holds plaintext that was read before; `tls` must have been fed
    /// every byte that was read from the socket.
    pub fn new(socket: Awaited, tls: Option<TlsCodec>, prefix: BytesMut) -> Self {
        let flow = Flow {
            bytes_in: Cell::new(prefix.len() as u64),
            bytes_out: Cell::new(0),
            flushed: Cell::new(true),
            first_input: Cell::new(None),
            last_output: Cell::new(Instant::now()),
            took: Cell::new(false),
        };
        Self {
            socket: Some(socket),
            tls,
            plain: prefix,
            cipher: Vec::new(),
            cipher_sent: 0,
            eof: false,
            flow: Rc::new(flow),
        }
    }

    /// Takes the connection apart: socket, TLS state, and plaintext nobody has asked for yet.
    /// What was written must have been flushed.
    ///
    /// # Errors
    /// The socket was already taken.
    pub fn into_parts(mut self) -> io::Result<(OwnedFd, Option<TlsCodec>, BytesMut)> {
        debug_assert!(self.cipher.len() == self.cipher_sent, "taken apart with unsent bytes");
        let socket = self.socket.take().ok_or(io::ErrorKind::NotConnected)?;
        Ok((socket.into_fd()?, self.tls.take(), std::mem::take(&mut self.plain)))
    }

    /// The TLS state, if the connection speaks TLS.
    pub fn tls(&self) -> Option<&TlsCodec> {
        self.tls.as_ref()
    }

    pub(crate) fn flow(&self) -> Rc<Flow> {
        self.flow.clone()
    }

    /// Completes the TLS handshake; returns at once on a plain connection.
    ///
    /// # Errors
    /// The peer went away or broke TLS.
    pub async fn handshake(&mut self) -> io::Result<()> {
        poll_fn(|cx| {
            loop {
                if let Some(tls) = &mut self.tls {
                    tls.take_output(&mut self.cipher);
                }
                let sent = self.poll_send_cipher(cx)?;
                if !self.tls.as_ref().is_some_and(TlsCodec::is_handshaking) {
                    return sent.map(Ok);
                }
                if self.eof {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                ready!(self.poll_fill(cx))?;
            }
        })
        .await
    }

    /// Ends our direction and waits for the peer to end its own, dropping what it still sends:
    /// closing with unread bytes would reset the connection and lose our last answer.
    pub(crate) async fn linger(&mut self) {
        let farewell = poll_fn(|cx| Pin::new(&mut *self).poll_shutdown(cx)).await;
        let mut budget = 256usize;
        while farewell.is_ok() && !self.eof && budget > 0 {
            self.plain.clear();
            budget -= 1;
            if poll_fn(|cx| self.poll_fill(cx)).await.is_err() {
                break;
            }
        }
    }

    /// Reads once more behind what nobody has asked for yet; false at the end of the stream. With
    /// `patient` nothing is expected to be there, so that the socket is not asked for it in vain.
    pub(crate) fn poll_more(
        &mut self,
        cx: &mut Context<'_>,
        patient: bool,
    ) -> Poll<io::Result<bool>> {
        if !self.plain.is_empty() {
            self.flow.note_input();
        } else if patient && !self.eof {
            ready!(self.poll_news(cx))?;
        }
        if !self.eof {
            ready!(self.poll_fill(cx))?;
        }
        Poll::Ready(Ok(!self.eof))
    }

    /// Held while the task of this connection waits for its peer and nothing but deadlines.
    pub(crate) fn patience(&self) -> Option<Patience> {
        self.socket.as_ref().and_then(Awaited::patience)
    }

    /// Ready when the peer has ended the stream. What it sends until then is kept, up to what is
    /// read at once; more waits in the kernel, and so does the end of the stream behind it.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.eof && self.plain.len() < READ_BYTES {
            // Nothing is expected: the socket is not asked in vain each time a task is woken.
            if ready!(self.poll_news(cx)).is_err() || ready!(self.poll_fill(cx)).is_err() {
                return Poll::Ready(());
            }
        }
        if self.eof { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Takes what nobody has asked for yet.
    pub(crate) fn take_input(&mut self) -> Bytes {
        std::mem::take(&mut self.plain).freeze()
    }

    /// Gives back all of what was taken.
    pub(crate) fn put_back(&mut self, bytes: Bytes) {
        debug_assert!(self.plain.is_empty(), "nothing was read meanwhile");
        self.plain = BytesMut::from(bytes);
    }

    /// Puts bytes back in front of those nobody has asked for yet.
    pub(crate) fn unread(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            let later = std::mem::replace(&mut self.plain, BytesMut::from(bytes));
            self.plain.extend_from_slice(&later);
        }
    }

    /// Sends all of it on a plain connection, waiting for the peer; with `more` the kernel is told
    /// that other bytes follow at once.
    ///
    /// # Errors
    /// What the socket says.
    pub(crate) async fn send_all(&mut self, bytes: &[u8], more: bool) -> io::Result<()> {
        debug_assert!(self.tls.is_none(), "past the encryption");
        self.flow.begin_output();
        let mut left = bytes;
        while !left.is_empty() {
            let sent = if more {
                sys_serve::send_more(self.borrow()?, left)
            } else {
                sys::send(self.borrow()?, left)
            };
            match sent {
                Ok(sent) => {
                    self.note_output(sent);
                    left = left.get(sent..).unwrap_or_default();
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.wait_for_room().await?;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Sends all of the slices on a plain connection, waiting for the peer.
    ///
    /// # Errors
    /// What the socket says.
    pub(crate) async fn send_slices(&mut self, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        debug_assert!(self.tls.is_none(), "past the encryption");
        self.flow.begin_output();
        let mut left = slices;
        // Slices without bytes are gone from then on.
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            match sys::sendmsg(self.borrow()?, left) {
                Ok(sent) => {
                    self.note_output(sent);
                    IoSlice::advance_slices(&mut left, sent);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.wait_for_room().await?;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Sends bytes of a file on a plain connection until it takes no more, and waits then until it
    /// does; how many it took. They must be in the page cache.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file ends early, else what the socket says.
    pub(crate) async fn send_file(
        &mut self,
        file: &File,
        offset: u64,
        count: u64,
    ) -> io::Result<u64> {
        debug_assert!(self.tls.is_none(), "past the encryption");
        self.flow.begin_output();
        let mut taken = 0;
        while taken < count {
            let left = usize::try_from(count - taken).unwrap_or(usize::MAX);
            match sys_serve::send_file(self.borrow()?, file, offset + taken, left) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(sent) => {
                    self.note_output(sent);
                    taken += sent as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.wait_for_room().await?;
                    break;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(taken)
    }

    /// Everything that was to be sent has been.
    pub(crate) fn end_output(&self) {
        self.flow.flushed.set(true);
    }

    fn borrow(&self) -> io::Result<BorrowedFd<'_>> {
        self.socket.as_ref().ok_or(io::ErrorKind::NotConnected)?.fd()
    }

    fn socket(&mut self) -> io::Result<&mut Awaited> {
        self.socket.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Ready when the socket may have something that it had not when it was last read.
    fn poll_news(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket()?.poll(cx, Direction::Read)
    }

    /// The same after the socket had nothing.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = self.socket()?;
        socket.blocked(Direction::Read);
        socket.poll(cx, Direction::Read)
    }

    /// Ready when a socket that took nothing may take something.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = self.socket()?;
        socket.blocked(Direction::Write);
        socket.poll(cx, Direction::Write)
    }

    async fn wait_for_room(&mut self) -> io::Result<()> {
        let socket = self.socket()?;
        // Once: what is polled again has been woken.
        socket.blocked(Direction::Write);
        poll_fn(|cx| socket.poll(cx, Direction::Write)).await
    }

    /// Reads once from the socket into `plain` (through TLS); sets `eof` at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let filled = READ.with_borrow_mut(|buffer| self.fill(&mut buffer[..], cx));
            match filled {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.poll_input(cx))?;
                }
                filled => return Poll::Ready(filled),
            }
        }
    }

    /// The same by way of `buffer`, and `WouldBlock` when there is nothing.
    fn fill(&mut self, buffer: &mut [u8], cx: &mut Context<'_>) -> io::Result<()> {
        let read = sys::recv(self.borrow()?, buffer)?;
        self.flow.bytes_in.set(self.flow.bytes_in.get() + read as u64);
        self.flow.note_input();
        self.eof = read == 0;
        if read < buffer.len() {
            self.socket()?.drained();
        }
        let Some(tls) = &mut self.tls else {
            self.plain.extend_from_slice(&buffer[..read]);
            return Ok(());
        };
        let outcome = tls.receive(&buffer[..read], &mut self.plain);
        tls.take_output(&mut self.cipher);
        // An alert is worth one try; the connection is over either way.
        if let Poll::Ready(Err(e)) = self.poll_send_cipher(cx) {
            return Err(e);
        }
        match outcome {
            Ok(received) => self.eof |= received.eof,
            Err(e) => return Err(io::Error::new(io::ErrorKind::InvalidData, e)),
        }
        Ok(())
    }

    fn poll_send_cipher(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.cipher_sent < self.cipher.len() {
            match sys::send(self.borrow()?, &self.cipher[self.cipher_sent..]) {
                Ok(sent) => {
                    self.cipher_sent += sent;
                    self.note_output(sent);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.poll_room(cx))?;
                }
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
        self.cipher.clear();
        self.cipher_sent = 0;
        Poll::Ready(Ok(()))
    }

    fn note_output(&self, bytes: usize) {
        self.flow.bytes_out.set(self.flow.bytes_out.get() + bytes as u64);
        self.flow.took.set(true);
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        if let Ok(fd) = self.borrow() {
            sys::shutdown(fd, Half::Both);
        }
    }
}

impl Read for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        for _ in 0..FRUITLESS_READS_MAX {
            if !self.plain.is_empty() {
                let take = self.plain.len().min(into.remaining());
                into.put_slice(&self.plain[..take]);
                self.plain.advance(take);
                self.flow.note_input();
                return Poll::Ready(Ok(()));
            }
            if self.eof {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_fill(cx))?;
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Write for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.flow.begin_output();
        ready!(self.poll_send_cipher(cx))?;
        let this = &mut *self;
        if let Some(tls) = &mut this.tls {
            let mut left = ENCRYPT_BYTES;
            let mut batch = Vec::with_capacity(slices.len());
            for slice in slices {
                let take = slice.len().min(left);
                batch.push(IoSlice::new(&slice[..take]));
                left -= take;
                if left == 0 {
                    break;
                }
            }
            tls.send(&batch, &mut this.cipher);
            if let Poll::Ready(Err(e)) = this.poll_send_cipher(cx) {
                return Poll::Ready(Err(e));
            }
            return Poll::Ready(Ok(ENCRYPT_BYTES - left));
        }
        loop {
            match sys::sendmsg(this.borrow()?, slices) {
                Ok(sent) => {
                    this.note_output(sent);
                    return Poll::Ready(Ok(sent));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    ready!(this.poll_room(cx))?;
                }
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.cipher_sent < self.cipher.len() {
            self.flow.begin_output();
        }
        ready!(self.poll_send_cipher(cx))?;
        if !self.flow.flushed.replace(true) {
            // The time in which nothing is asked begins.
            self.flow.last_output();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(tls) = &mut this.tls {
            tls.close(&mut this.cipher);
        }
        ready!(this.poll_send_cipher(cx))?;
        sys::shutdown(this.borrow()?, Half::Write);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    #[test]
    fn a_socket_that_takes_all_at_once_has_taken_it_now() {
        let executor = glommio::LocalExecutorBuilder::default().spawn(|| async {
            let (near, _far) = UnixStream::pair().expect("a pair");
            near.set_nonblocking(true).expect("set");
            let socket = Awaited::of_executor(near.into()).expect("it is watched");
            let mut io = Io::new(socket, None, BytesMut::new());
            let flow = io.flow();
            // The source of a body is slow: each piece of it finds room.
            io.send_all(b"piece", true).await.expect("sent");
            let long_ago = Instant::now() - Duration::from_secs(60);
            flow.last_output.set(long_ago);
            assert!(flow.last_output().elapsed() < Duration::from_secs(30));
            // Nothing more is taken.
            flow.last_output.set(long_ago);
            assert_eq!(flow.last_output(), long_ago);
        });
        executor.expect("an executor").join().expect("the checks hold");
    }
}
