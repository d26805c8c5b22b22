//! A network in between: forwards one RTSP publication whose media travel by UDP, and loses,
//! reorders and doubles RTP packets on the way, by a seed.
//!
//! Ports in the dialogue are rewritten, so that both ends send to the relay. What reached the server
//! is judged here from the sequence numbers alone: [`Tally`].

use std::collections::HashSet;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often a thread looks whether the relay has ended.
const TICK: Duration = Duration::from_millis(20);
/// A packet that is held lets at most so many others pass.
const HELD_MAX: u64 = 3;

/// What happens to RTP packets on their way to the server.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// Where the dice of each track begin.
    pub seed: u64,
    /// Of a thousand packets so many are lost.
    pub lost: u64,
    /// So many come after up to three packets that were sent later.
    pub held: u64,
    /// So many come twice.
    pub doubled: u64,
}

/// The RTP packets that were passed on to the server, as it should account for them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Packets, those that came twice once.
    pub received: u64,
    /// Sequence numbers between the first and the last that never came.
    pub lost: u64,
    /// Packets that came after one sent later.
    pub reordered: u64,
    /// Packets that came again.
    pub duplicates: u64,
}

/// Forwards until it is dropped.
#[derive(Debug)]
pub struct RtspRelay {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    weather: Weather,
    over: AtomicBool,
    /// Of each track that was set up.
    tallies: Mutex<Vec<Tally>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// One track: sockets that face the publisher, and sockets that face the server.
struct Leg {
    near: [UdpSocket; 2],
    far: [UdpSocket; 2],
    /// Ports of the publisher, as it named them.
    client: (u16, u16),
}

impl RtspRelay {
    /// A relay for one publisher to the RTSP port of a server on this machine.
    pub fn start(server_port: u16, weather: Weather) -> RtspRelay {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            server: SocketAddr::from(([127, 0, 0, 1], server_port)),
            weather,
            over: AtomicBool::new(false),
            tallies: Mutex::default(),
            threads: Mutex::default(),
        });
        listener.set_nonblocking(true).expect("a socket");
        let own = Arc::clone(&shared);
        let accepting = Some(std::thread::spawn(move || own.accept(&listener)));
        RtspRelay { address, shared, accepting }
    }

    /// `rtsp://…/live/NAME` through the relay.
    pub fn url(&self, name: &str) -> String {
        format!("rtsp://{}/live/{name}", self.address)
    }

    /// What was passed on so far, per track.
    pub fn tallies(&self) -> Vec<Tally> {
        self.shared.tallies.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for RtspRelay {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        let accepting = self.accepting.take();
        accepting.into_iter().for_each(|thread| drop(thread.join()));
        let threads = std::mem::take(
            &mut *self.shared.threads.lock().unwrap_or_else(PoisonError::into_inner),
        );
        threads.into_iter().for_each(|thread| drop(thread.join()));
    }
}

impl Shared {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn spawn(self: &Arc<Self>, run: impl FnOnce(&Arc<Self>) + Send + 'static) {
        let own = Arc::clone(self);
        let thread = std::thread::spawn(move || run(&own));
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        while !self.is_over() {
            let Ok((client, _)) = listener.accept() else {
                std::thread::park_timeout(TICK);
                continue;
            };
            client.set_nonblocking(false).expect("a socket");
            let server = TcpStream::connect(self.server).expect("the server listens");
            for stream in [&client, &server] {
                stream.set_read_timeout(Some(TICK)).expect("a socket");
            }
            let (legs, opened) = channel();
            let from_client = client.try_clone().expect("a descriptor");
            let to_server = server.try_clone().expect("a descriptor");
            self.spawn(move |shared| {
                shared.forward(from_client, to_server, |line| ask(line, &legs));
            });
            self.spawn(move |shared| {
                shared.forward(server, client, |line| shared.answer(line, &opened));
            });
        }
    }

    /// Passes a dialogue on line by line, and its end.
    fn forward(&self, from: TcpStream, mut to: TcpStream, rewrite: impl Fn(&str) -> String) {
        let (mut from, mut line) = (BufReader::new(from), Vec::new());
        while !self.is_over() {
            match from.read_until(b'\n', &mut line) {
                Ok(0) => break,
                Ok(_) => {
                    let text = String::from_utf8_lossy(&line);
                    let text = match text.to_ascii_lowercase().starts_with("transport:") {
                        true => rewrite(&text),
                        false => text.into_owned(),
                    };
                    if to.write_all(text.as_bytes()).is_err() {
                        break;
                    }
                    line.clear();
                }
                // What came of a line stays in it.
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => break,
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Both);
    }

    /// Puts our ports into the server's answer, and opens the track.
    fn answer(self: &Arc<Self>, line: &str, opened: &Receiver<Leg>) -> String {
        let Some((server_rtp, server_rtcp)) = ports(line, "server_port=") else {
            return line.to_owned();
        };
        let leg = opened.try_recv().expect("a track was asked for before it is answered");
        let line = replace(line, "client_port=", leg.client);
        let line = replace(&line, "server_port=", both(&leg.near));
        let index = {
            let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
            tallies.push(Tally::default());
            tallies.len() - 1
        };
        let at = |port| SocketAddr::new(self.server.ip(), port);
        let (rtp, rtcp, client_rtcp) = (at(server_rtp), at(server_rtcp), at(leg.client.1));
        let [near_rtp, near_rtcp] = leg.near;
        let [far_rtp, far_rtcp] = leg.far;
        let (back_from, back_to) = (far_rtcp.try_clone(), near_rtcp.try_clone());
        let (back_from, back_to) = (back_from.expect("a socket"), back_to.expect("a socket"));
        self.spawn(move |shared| {
            shared.pass(&near_rtcp, |data| {
                let _ = far_rtcp.send_to(data, rtcp);
            })
        });
        self.spawn(move |shared| {
            shared.pass(&back_from, |data| {
                let _ = back_to.send_to(data, client_rtcp);
            })
        });
        self.spawn(move |shared| shared.disturb(index, &near_rtp, &far_rtp, rtp));
        line
    }

    /// Hands on what a socket receives until the end.
    fn pass(&self, from: &UdpSocket, mut each: impl FnMut(&[u8])) {
        let mut buffer = [0; 2048];
        while !self.is_over() {
            if let Ok((count, _)) = from.recv_from(&mut buffer) {
                each(&buffer[..count]);
            }
        }
    }

    /// Passes the RTP packets of a track on, as the weather has it.
    fn disturb(&self, index: usize, from: &UdpSocket, out: &UdpSocket, to: SocketAddr) {
        let Weather { seed, lost, held, doubled } = self.weather;
        let mut dice = Dice(seed.wrapping_add(index as u64));
        let mut waiting: Vec<(u64, Vec<u8>)> = Vec::new();
        let mut account = Account::default();
        let mut send = |data: &[u8]| {
            // Counted first: the server may say what came before this thread goes on.
            account.note(data);
            self.tallies.lock().unwrap_or_else(PoisonError::into_inner)[index] = account.tally();
            let _ = out.send_to(data, to);
        };
        self.pass(from, |data| {
            let (fate, hold) = (dice.below(1000), 1 + dice.below(HELD_MAX));
            let twice = dice.below(1000) < doubled;
            if fate >= lost + held {
                send(data);
                if twice {
                    send(data);
                }
            }
            waiting.iter_mut().for_each(|(left, _)| *left -= 1);
            while let Some(due) = waiting.iter().position(|(left, _)| *left == 0) {
                send(&waiting.swap_remove(due).1);
            }
            if (lost..lost + held).contains(&fate) {
                waiting.push((hold, data.to_vec()));
            }
        });
    }
}

/// Puts our ports into the publisher's request.
fn ask(line: &str, legs: &Sender<Leg>) -> String {
    let Some(client) = ports(line, "client_port=") else { return line.to_owned() };
    let socket = || {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        socket.set_read_timeout(Some(TICK)).expect("a socket");
        socket
    };
    let leg = Leg { near: [socket(), socket()], far: [socket(), socket()], client };
    let line = replace(line, "client_port=", both(&leg.far));
    let _ = legs.send(leg);
    line
}

fn both(pair: &[UdpSocket; 2]) -> (u16, u16) {
    let port = |at: usize| pair[at].local_addr().expect("it is bound").port();
    (port(0), port(1))
}

/// The two ports behind a key of a Transport line.
fn ports(line: &str, key: &str) -> Option<(u16, u16)> {
    let value = line.split_once(key)?.1;
    let value = value.split([';', '\r', '\n', ',']).next()?;
    let (rtp, rtcp) = value.split_once('-')?;
    Some((rtp.parse().ok()?, rtcp.parse().ok()?))
}

fn replace(line: &str, key: &str, (rtp, rtcp): (u16, u16)) -> String {
    let Some((before, after)) = line.split_once(key) else { return line.to_owned() };
    let rest = after.find([';', '\r', '\n', ',']).map_or("", |at| &after[at..]);
    format!("{before}{key}{rtp}-{rtcp}{rest}")
}

/// What has been passed on of one track.
#[derive(Debug, Default)]
struct Account {
    /// Extended sequence numbers.
    seen: HashSet<i64>,
    first: i64,
    highest: Option<i64>,
    reordered: u64,
    duplicates: u64,
}

impl Account {
    fn note(&mut self, packet: &[u8]) {
        let Some(bytes) = packet.get(2..4) else { return };
        let sequence = u16::from_be_bytes([bytes[0], bytes[1]]);
        let Some(highest) = self.highest else {
            (self.first, self.highest) = (sequence.into(), Some(sequence.into()));
            self.seen.insert(sequence.into());
            return;
        };
        let step = i64::from(sequence.wrapping_sub(highest as u16).cast_signed());
        let extended = highest + step;
        if !self.seen.insert(extended) {
            self.duplicates += 1;
        } else if step < 0 {
            self.reordered += 1;
            self.first = self.first.min(extended);
        }
        self.highest = Some(highest.max(extended));
    }

    fn tally(&self) -> Tally {
        let span = self.highest.map_or(0, |highest| highest - self.first + 1);
        let received = self.seen.len() as u64;
        let lost = span.unsigned_abs() - received;
        Tally { received, lost, reordered: self.reordered, duplicates: self.duplicates }
    }
}

/// Numbers that follow from a seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_tell_all() {
        let mut account = Account::default();
        for sequence in [65_534u16, 65_535, 1, 1, 0, 3, 6, 4] {
            account.note(&[&[0x80, 96][..], &sequence.to_be_bytes()].concat());
        }
        let expected = Tally { received: 7, lost: 2, reordered: 2, duplicates: 1 };
        assert_eq!(account.tally(), expected);
    }

    #[test]
    fn ports_are_replaced() {
        let line = "Transport: RTP/AVP/UDP;unicast;client_port=5-6;mode=record\r\n";
        assert_eq!(ports(line, "client_port="), Some((5, 6)));
        let expected = "Transport: RTP/AVP/UDP;unicast;client_port=70-90;mode=record\r\n";
        assert_eq!(replace(line, "client_port=", (70, 90)), expected);
        assert_eq!(ports(line, "server_port="), None);
    }
}
