//! Names that mean another address each time they are asked for: what is dialled is what was
//! checked, however often a name is looked up.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tests::canary::{self, Canary};
use tests::server::{Config, Server};
use tests::{clients, skip, sys, wait};

/// Who is dialled when the name means somebody else's address.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
/// Connections of each kind that have to be tried.
const ENOUGH: usize = 4;

/// A network with a loopback and one address that is not of it, and names as `resolver` says.
fn own_network(resolver: &Path) -> Option<()> {
    clients::own_network(&["link set lo up", &format!("address add {OUTSIDE}/32 dev lo")])?;
    if let Err(error) = sys::replace_file(resolver, "/etc/resolv.conf".as_ref()) {
        skip(&format!("names of its own cannot be given to a network here: {error}"));
        return None;
    }
    Some(())
}

/// How often each of the two addresses was given for a name.
#[derive(Default)]
struct Given {
    outside: AtomicUsize,
    loopback: AtomicUsize,
}

/// Answers every question for an IPv4 address, in turn with the one outside and the loopback
/// (RFC 1035 4.1), and every other question with nothing.
fn serve_names(given: Arc<Given>) {
    const TYPE_A: [u8; 2] = [0, 1];
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 53)).expect("nobody serves names here");
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((count, peer)) = socket.recv_from(&mut buffer) {
            let query = &buffer[..count];
            // Header, labels, the end of them, type and class.
            let labels = query[12..].iter().position(|byte| *byte == 0).expect("a name ends");
            let question = &query[12..12 + labels + 5];
            let is_address = question[labels + 1..labels + 3] == TYPE_A;
            let mut answer = query[..2].to_vec();
            answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_address), 0, 0, 0, 0]);
            answer.extend(question);
            if is_address {
                let loopback =
                    given.outside.load(Ordering::SeqCst) > given.loopback.load(Ordering::SeqCst);
                let (count, address) = match loopback {
                    true => (&given.loopback, Ipv4Addr::LOCALHOST),
                    false => (&given.outside, OUTSIDE),
                };
                count.fetch_add(1, Ordering::SeqCst);
                // The name of the question, for no time, four bytes.
                answer.extend([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
                answer.extend(address.octets());
            }
            socket.send_to(&answer, peer).expect("sent");
        }
    });
}

/// Counts connections and ends each at once.
fn count_connections(at: (Ipv4Addr, u16)) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(at).expect("the port is free");
    let port = listener.local_addr().map(|address: SocketAddr| address.port());
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::SeqCst);
            drop(socket);
        }
    });
    (port.expect("it is bound"), count)
}

#[test]
fn a_name_that_means_another_address_each_time_leads_nowhere_near() {
    let resolver = std::env::temp_dir().join(format!("resolver-{}.conf", std::process::id()));
    std::fs::write(&resolver, "nameserver 127.0.0.1\noptions timeout:1\n").expect("written");
    let network = own_network(&resolver);
    // What is mounted needs no name.
    std::fs::remove_file(&resolver).expect("removed");
    let Some(()) = network else { return };
    let given = Arc::new(Given::default());
    serve_names(Arc::clone(&given));
    let (port, outside) = count_connections((OUTSIDE, 0));
    let (_, near) = count_connections((Ipv4Addr::LOCALHOST, port));

    let policy = format!(
        "<policy>
           <vhosts><vhost name='rtmp://127.0.0.1/live'>
             <forward rewrite=''>turning.example:{port}</forward>
           </vhost></vhosts>
           <pulls><pull url='rtmp://turning.example:{port}/live/a' stream='live/a' when='always'/>
             <pull url='rtsp://turning.example:{port}/b' stream='live/b' when='always'/>
             <pull url='http://turning.example:{port}/c.flv' stream='live/c' when='always'/></pulls>
         </policy>"
    );
    let server = Server::start(&Config::default().cores(1).policy(&policy));
    let Some(mut canary) = Canary::start(&server) else { return };
    wait::until_true("both addresses are met often", Duration::from_secs(40), || {
        outside.load(Ordering::SeqCst) >= 4 * ENOUGH
            && given.loopback.load(Ordering::SeqCst) >= 4 * ENOUGH
    });
    assert_eq!(near.load(Ordering::SeqCst), 0, "somebody was led to the loopback");
    let answer = server.api("/api/live");
    let live = answer["live"].as_array().cloned().unwrap_or_default();
    let show = live.iter().find(|stream| stream["name"] == canary::NAME).expect("it is live");
    assert!(show["forwards"][0]["attempts"].as_u64() >= Some(ENOUGH as u64), "{show}");
    server.wait_log("address_refused", Duration::from_secs(5));
    canary.verify(&server, "names that turn");
}
