//! Who is let in on a shard turned by hand: new rules, what nobody can say, passwords compared.

use std::cell::RefCell;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::{block_on, poll_once};
use protocols::session::{AccessRequest, Event, Identity, Output, Password};

use super::auth_task::admission;
use super::tests::{Script, Scripted, World, frame};
use crate::auth::hash::Comparer;
use crate::auth::{Answer, By, Question, Reason, Role as Wanted, Rules, session_key};
use crate::config::Config;
use crate::conn::{Protocol, Role};
use crate::http::api::Admission;
use crate::ring::Token;

const HOOK: &str = "<authurl>127.0.0.1:9</authurl>";
/// Of argon2-cffi: `password`, salt `saltsalt`, t=2, m=4096, p=1, 24 bytes.
const USER: &str = "<auth><user name='u' password='$argon2id$v=19$m=4096,t=2,p=1$c2FsdHNhbHQ$\
    WE7Suia6hCi009asI//6Tu4ip/ZBxNU9' roles='publisher,player,download,upload,api'/></auth>";

fn config(body: &str) -> Config {
    let text = format!("<config>{body}</config>");
    crate::config::load_str("test", &text, Path::new(".")).unwrap()
}

fn world(body: &str) -> World {
    let loaded = config(body);
    World::new(1, 64, |config| *config = loaded.clone())
}

/// Another configuration on all shards. There are no tasks here that could ask a server: questions
/// to one are answered by the test, before the shards are turned.
fn reload(world: &mut World, body: &str) {
    let new = Arc::new(config(body));
    let rules = Arc::new(Rules::load(&new).unwrap());
    let now = world.now;
    for shard in &mut world.shards {
        shard.reconfigure(Arc::clone(&new), &rules, now);
    }
}

fn request(name: &str) -> AccessRequest {
    AccessRequest { app: "live".into(), name: name.into(), ..AccessRequest::default() }
}

fn ask(world: &mut World, event: Event) -> (Token, Script, UnixStream) {
    let script = Script::default();
    script.lock().unwrap().push_back(Output::Event(event));
    let session = Box::new(Scripted(Arc::clone(&script)));
    let (token, socket) = world.connect(0, Protocol::Rtmp, session);
    (token, script, socket)
}

fn publish(world: &mut World, name: &str) -> (Token, Script, UnixStream) {
    ask(world, Event::PublishRequested(request(name)))
}

/// What a connection is; `None`: it is over.
fn role(world: &World, token: Token) -> Option<String> {
    let plane = &world.shards[0].plane;
    let conn = &plane.conns[plane.slot(token)?];
    if conn.draining.is_some() {
        return None;
    }
    Some(match &conn.role {
        Role::Idle => "idle".to_owned(),
        Role::Applying(_) => "applying".to_owned(),
        Role::Publisher(publishing) => format!("publisher of {}", publishing.key.name()),
        Role::Viewer { .. } => "viewer".to_owned(),
        other => format!("{other:?}"),
    })
}

fn is(world: &World, token: Token, expected: &str) {
    assert_eq!(role(world, token).as_deref(), Some(expected));
}

#[test]
fn who_waits_is_judged_by_the_new_rules() {
    let mut world = world(HOOK);
    let now = world.now;
    let (first, _, _first) = publish(&mut world, "x");
    is(&world, first, "applying");
    // Another server: the answer of the old one, which is under way, lets nobody in.
    reload(&mut world, "<authurl>127.0.0.1:10</authurl>");
    world.shards[0].on_judged(1, Answer::Yes, None, now);
    is(&world, first, "applying");
    world.shards[0].on_judged(2, Answer::Yes, None, now);
    world.settle();
    is(&world, first, "publisher of x");
    // Nobody has to be asked any more.
    let (second, _, _second) = publish(&mut world, "y");
    is(&world, second, "applying");
    reload(&mut world, "");
    world.settle();
    is(&world, second, "publisher of y");
    // Nobody may.
    reload(&mut world, HOOK);
    let (third, _, _third) = publish(&mut world, "z");
    is(&world, third, "applying");
    reload(&mut world, "<auth><address roles='publisher' deny='127.0.0.1'/></auth>");
    is(&world, third, "idle");
    world.shards[0].on_judged(4, Answer::Yes, None, now);
    world.settle();
    is(&world, third, "idle");
}

#[test]
fn requests_that_wait_are_judged_by_the_new_rules() {
    for (body, expected) in [
        ("", Ok(By::Open)),
        ("<auth><address roles='player' deny='203.0.113.0/24'/></auth>", Err(Reason::Address)),
    ] {
        let mut world = world(HOOK);
        let shard = Rc::new(RefCell::new(world.shards.remove(0)));
        let question = Question::example("");
        let Admission::Pending(mut verdict) = admission(&shard, &question, Some("live/stream"))
        else {
            panic!("nobody is asked")
        };
        assert_eq!(block_on(poll_once(&mut verdict)), None);
        let new = Arc::new(config(body));
        let rules = Arc::new(Rules::load(&new).unwrap());
        shard.borrow_mut().reconfigure(new, &rules, world.now);
        // Too late.
        shard.borrow_mut().on_judged(1, Answer::Yes, None, world.now);
        assert_eq!(block_on(poll_once(&mut verdict)), Some(expected));
    }
}

#[test]
fn only_who_plays_goes_on_when_nobody_can_say() {
    let mut world = world(USER);
    let shard = Rc::new(RefCell::new(world.shards.remove(0)));
    for (role, expected) in [
        (Wanted::Player, Ok(By::Running)),
        (Wanted::Download, Ok(By::Running)),
        (Wanted::Publisher, Err(Reason::Unavailable)),
        (Wanted::Upload, Err(Reason::Unavailable)),
        (Wanted::Api, Err(Reason::Unavailable)),
    ] {
        let question = Question { role, ..Question::example("user=u&pass=password") };
        let admit = || match admission(&shard, &question, Some("x")) {
            Admission::Settled(verdict) => verdict,
            Admission::Pending(_) => panic!("there is nobody who compares passwords"),
        };
        assert_eq!(admit(), Err(Reason::Unavailable), "{role}");
        // It was let in, and is to be judged again.
        let key = session_key("x", &question);
        let now = world.now;
        shard.borrow_mut().auth.sessions.admit(key, now, now);
        assert_eq!(admit(), expected, "{role}");
    }
}

#[test]
fn a_password_that_fits_is_compared_once() {
    let mut world = world(USER);
    let (comparer, comparisons) = Comparer::to_test();
    world.shards[0].shared.comparer = Some(comparer);
    let as_user = |name: &str, password: &str| {
        let identity =
            Identity::Claimed { user: "u".into(), password: Password(password.to_owned()) };
        Event::PublishRequested(AccessRequest { identity, ..request(name) })
    };
    let now = world.now;
    let (first, _, _first) = ask(&mut world, as_user("x", "password"));
    is(&world, first, "applying");
    let asked = comparisons.try_recv().expect("a comparison");
    world.shards[0].on_judged(asked.id, Answer::Yes, None, now);
    world.settle();
    is(&world, first, "publisher of x");
    // Again, and for another connection.
    world.shards[0].recheck(first.index as usize, now);
    let (second, _, _second) = ask(&mut world, as_user("y", "password"));
    world.settle();
    is(&world, second, "publisher of y");
    assert!(comparisons.is_empty());
    // What does not fit is compared each time.
    for _ in 0..2 {
        let (other, _, _other) = ask(&mut world, as_user("z", "passwort"));
        let asked = comparisons.try_recv().expect("a comparison");
        world.shards[0].on_judged(asked.id, Answer::No, None, now);
        is(&world, other, "idle");
    }
    reload(&mut world, &USER.replace(",download", ""));
    let (third, _, _third) = ask(&mut world, as_user("z", "password"));
    is(&world, third, "applying");
    assert_eq!(comparisons.len(), 1, "the rules are others");
}

#[test]
fn rechecks_reach_who_came_before_they_were_switched_on() {
    let mut world = world("");
    let (publisher, script, _publisher) = world.publish(0, "x");
    world.say(0, publisher, &script, frame(0, 50, 100));
    let (player, _, _player) = ask(&mut world, Event::PlayRequested(request("x")));
    world.settle();
    is(&world, player, "viewer");
    // An interval alone ends nobody.
    reload(&mut world, "<auth><recheck>1</recheck></auth>");
    world.pass(Duration::from_millis(1500));
    is(&world, player, "viewer");
    let deny = "<address roles='player' deny='127.0.0.1'/>";
    reload(&mut world, &format!("<auth><recheck>600</recheck>{deny}</auth>"));
    world.pass(Duration::from_millis(1500));
    assert_eq!(role(&world, player), None, "it was due before the longer interval");
    is(&world, publisher, "publisher of x");
    assert!(world.shards[0].counters.auth.rechecks >= 3);
}

#[test]
fn a_publisher_claims_nothing_else() {
    let mut world = world("");
    let (publisher, script, _socket) = publish(&mut world, "x");
    world.settle();
    is(&world, publisher, "publisher of x");
    world.say(0, publisher, &script, Output::Event(Event::PublishRequested(request("y"))));
    is(&world, publisher, "publisher of x");
    let (other, _, _other) = publish(&mut world, "y");
    world.settle();
    is(&world, other, "publisher of y");
}
