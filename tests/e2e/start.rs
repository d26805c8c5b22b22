//! Starting where it cannot work: one sentence with cause and remedy, a non-zero exit, in time.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use tests::process::Finished;
use tests::server::{Config, Server};
use tests::sys::Limit;
use tests::{http, wait};

/// A refusal to start comes within a second; half of one more is for a loaded machine.
const BOUND: Duration = Duration::from_millis(1500);

#[test]
fn wrong_values_are_named() {
    for (path, value) in [
        ("rtmp/port", "70000"),
        ("rtmp/port", "-1"),
        ("rtmp/port", "rtmp"),
        ("http/port", "1e3"),
        ("engine/cores", "0"),
        ("engine/cores", "many"),
        ("rtmp/chunksize", "0"),
        ("rtmp/chunksize", "99999999999"),
        ("rtmp/ip", "300.1.1.1"),
        ("rtmp/enable", "perhaps"),
        ("rtmp/publish_policy", "coin"),
        ("rtmp/play_wait", "-2"),
    ] {
        let name = path.rsplit('/').next().expect("a path");
        let ended = Config::default().set(path, value).run(&[], BOUND);
        assert_refused(&format!("{path} = {value}"), &ended, &[name, value]);
    }
}

#[test]
fn broken_files_are_refused_with_their_line() {
    let bomb = "<!DOCTYPE c [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;\">]>\n\
        <config><rtmp><port>&b;</port></rtmp></config>";
    let attributes = (0..80_000).map(|n| format!(" a{n}=\"\"")).collect::<String>();
    for (name, xml) in [
        ("empty file", String::new()),
        ("not closed", "<config><rtmp><port>1935</port>".to_owned()),
        ("crossed", "<config><rtmp></config></rtmp>".to_owned()),
        ("another root", "<server></server>".to_owned()),
        ("no XML", "port = 1935\n".to_owned()),
        ("entities", bomb.to_owned()),
        ("80,000 attributes", format!("<config{attributes}><rtmp/></config>")),
        ("NUL", "<config>\0</config>".to_owned()),
    ] {
        let ended = Config::default().raw(&xml).run(&[], BOUND);
        assert_refused(name, &ended, &["config.xml"]);
    }
    let ended = Config::default().policy("<policy><forward>").run(&[], BOUND);
    assert_refused("broken policy", &ended, &["policy.xml"]);
}

#[test]
fn unknown_elements_are_refused() {
    let ended = Config::default().set("rtmp/prot", "1935").run(&[], BOUND);
    assert_refused("a misspelt element", &ended, &["prot"]);
}

#[test]
fn shipped_files_are_right() {
    let read = |name| std::fs::read_to_string(tests::root().join(name)).expect("is shipped");
    let config = Config::default().raw(&read("config.xml")).policy(&read("policy.xml"));
    let ended = config.run(&["--check"], BOUND);
    assert!(ended.status.success(), "{}", ended.stderr);
}

#[test]
fn check_says_yes_and_no() {
    let good = Config::default().run(&["--check"], BOUND);
    assert!(good.status.success(), "{}", good.stderr);
    let bad = Config::default().set("rtmp/port", "x").run(&["--check"], BOUND);
    assert_refused("--check", &bad, &["port"]);
}

#[test]
fn check_opens_no_port() {
    let server = Server::start_default();
    let config = Config::default().set("rtmp/port", server.rtmp).set("http/port", server.http);
    let ended = config.run(&["--check"], BOUND);
    assert!(ended.status.success(), "{}", ended.stderr);
}

#[test]
fn unknown_arguments_are_refused() {
    let ended = Config::default().run(&["--no-such-argument"], BOUND);
    assert_refused("argument", &ended, &["--no-such-argument"]);
}

#[test]
fn port_taken() {
    for path in ["rtmp/port", "http/port", "http/sport"] {
        let taken = TcpListener::bind("0.0.0.0:0").expect("a free port");
        let port = taken.local_addr().expect("bound").port().to_string();
        let ended = Config::default().set(path, &port).run(&[], BOUND);
        assert_refused(path, &ended, &[&port, "in use"]);
    }
}

#[test]
fn second_server_on_the_same_port_is_refused() {
    let server = Server::start_default();
    let port = server.rtmp.to_string();
    let ended = Config::default().set("rtmp/port", &port).run(&[], BOUND);
    assert_refused("second server", &ended, &[&port]);
    assert_eq!(http::get(server.http, "/healthz").status, 200, "the first one goes on");
}

#[test]
fn missing_certificate() {
    let config = Config::default().set("ssl/servercert", "none.pem");
    let ended = config.set("ssl/serverkey", "none.key").run(&[], BOUND);
    assert_refused("certificate", &ended, &["none."]);
}

#[test]
fn missing_config_file() {
    let mut command = std::process::Command::new(tests::server::binary());
    command.args(["--config", "does-not-exist.xml"]);
    let ended = tests::process::Process::run("smart-rtmpd", command, BOUND);
    assert_refused("missing file", &ended, &["does-not-exist.xml"]);
}

#[test]
fn memlock_too_low() {
    let ended = Config::default().limit(Limit::Memlock(64 * 1024)).run(&[], BOUND);
    assert_refused("memlock", &ended, &["memlock"]);
    assert_eq!(ended.status.code(), Some(78), "the exit code of a wrong environment");
}

#[test]
fn io_uring_denied() {
    let ended = Config::default().without_io_uring().run(&[], BOUND);
    assert_refused("io_uring", &ended, &["io_uring", "seccomp"]);
    assert_eq!(ended.status.code(), Some(78), "the exit code of a wrong environment");
}

#[test]
fn few_descriptors_do_not_spin() {
    let mut server = Server::start(&Config::default().cores(1).limit(Limit::Nofile(96)));
    let held: Vec<_> = (0..200).filter_map(|_| http::connect(server.rtmp).ok()).collect();
    let before = server.cpu();
    let start = Instant::now();
    wait::stays_true("it does not end", Duration::from_secs(2), || server.alive());
    let used = server.cpu().saturating_sub(before);
    let share = used.as_secs_f64() / start.elapsed().as_secs_f64();
    assert!(share < 0.2, "{:.0} % of a core for connections that wait", share * 100.0);
    drop(held);
    let what = "serves again within a second";
    wait::until_true(what, Duration::from_secs(1), || {
        let request = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        http::exchange(server.http, request, false).is_ok_and(|answer| answer.status == 200)
    });
}

#[test]
fn ready_within_a_second() {
    let start = Instant::now();
    let server = Server::start_default();
    let answer = http::get(server.http, "/healthz");
    assert_eq!(answer.status, 200);
    // The slot of the test is waited for too; a lone run is what counts.
    eprintln!("ready and served after {:?}", start.elapsed());
    assert!(server.https != 0, "no HTTPS listener announced");
}

/// A non-zero exit in time, no panic, and a sentence that names all of `words`.
fn assert_refused(what: &str, ended: &Finished, words: &[&str]) {
    let said = &ended.stderr;
    assert!(ended.took < BOUND, "{what}: took {:?}: {said}", ended.took);
    let code = ended.status.code();
    assert!(code.is_some_and(|code| code != 0), "{what}: {}: {said}", ended.status);
    assert!(!said.contains("panicked"), "{what}: {said}");
    for word in words {
        let found = said.to_lowercase().contains(&word.to_lowercase());
        assert!(found, "{what}: `{word}` is not named in: {said}");
    }
    assert!(said.lines().count() <= 10, "{what}: more than a few sentences: {said}");
}
