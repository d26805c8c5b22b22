//! A client against this crate's own server, and against the words of others.

use bytes::BytesMut;

use super::*;
use crate::fuzzing::virtual_epoch;
use crate::hops::{HOPS_MAX, NodeId};
use crate::rtmp::chunk::{Reader, Writer};
use crate::rtmp::handshake::ServerHandshake;
use crate::rtmp::server::{Server, ServerOptions};
use crate::rtmp::status::{Level, information, on_status};
use crate::session::Refusal;

const LIMITS: Limits =
    Limits { reassembly_bytes: 1 << 20, chunk_streams: 32, message_bytes: 1 << 20 };

fn options() -> ClientOptions {
    ClientOptions {
        app: "live".to_owned(),
        tc_url: "rtmp://h/live".to_owned(),
        stream: "x".to_owned(),
        role: Role::Publish,
        chunk_size: 4096,
        type3_extended_timestamp: true,
        enhanced: true,
        flash_ver: "FMLE/3.0 (compatible; test)".to_owned(),
        limits: LIMITS,
        legacy_h265_id: 12,
        credentials: None,
        auth: None,
        hops: Hops::default(),
        start_timeout: Some(Duration::from_secs(5)),
    }
}

/// Both ends without a network between them; what either reports.
struct Pair {
    client: Client,
    server: Server,
    to_client: BytesMut,
    to_server: BytesMut,
    reports: Vec<Event>,
    asked: Vec<AccessRequest>,
}

impl Pair {
    fn new(options: ClientOptions, node: Option<NodeId>) -> Self {
        let now = virtual_epoch();
        let server = ServerOptions { node, ..ServerOptions::default() };
        Self {
            client: Client::new(now, 1, Arc::new(options)),
            server: Server::new(now, 2, Arc::new(server)),
            to_client: BytesMut::new(),
            to_server: BytesMut::new(),
            reports: Vec::new(),
            asked: Vec::new(),
        }
    }

    /// Until neither has anything to say; the engine's decision on a publish is `answer`.
    fn run(&mut self, answer: Option<Refusal>) -> Result<(), SessionError> {
        let now = virtual_epoch();
        loop {
            let before = (self.reports.len(), self.asked.len());
            while let Some(output) = self.client.poll_output() {
                match output {
                    Output::Transmit(bytes) => self.to_server.extend_from_slice(&bytes),
                    Output::Event(event) => self.reports.push(event),
                    Output::Datagram { .. } => panic!("RTMP has no datagrams"),
                }
            }
            // What the server says at its end the client hears all the same.
            let _ = self.server.handle_input(now, Input::Stream(&mut self.to_server));
            let mut decide = false;
            while let Some(output) = self.server.poll_output() {
                match output {
                    Output::Transmit(bytes) => self.to_client.extend_from_slice(&bytes),
                    Output::Event(Event::PublishRequested(request)) => {
                        self.asked.push(request);
                        decide = true;
                    }
                    Output::Event(_) => {}
                    Output::Datagram { .. } => panic!("RTMP has no datagrams"),
                }
            }
            if decide {
                let command = answer.map_or(EngineCommand::Accept, EngineCommand::Reject);
                let _ = self.server.handle_command(now, command);
                continue;
            }
            if self.to_client.is_empty() && before == (self.reports.len(), self.asked.len()) {
                return Ok(());
            }
            self.client.handle_input(now, Input::Stream(&mut self.to_client))?;
        }
    }
}

#[test]
fn a_publication_is_reported_once_it_is_taken() {
    let mut pair = Pair::new(options(), None);
    assert_eq!(pair.client.poll_timeout(), Some(virtual_deadline(&pair.client)));
    pair.run(None).unwrap();
    let [Event::PlayRequested(request)] = pair.reports.as_slice() else {
        panic!("{:?}", pair.reports);
    };
    assert_eq!((&*request.app, &*request.name, request.message_stream_id), ("live", "x", 1));
    assert!(request.enhanced && request.hops.is_empty());
    assert!(pair.server.is_publishing());
    assert_eq!(pair.asked[0].agent, "FMLE/3.0 (compatible; test)");
    assert_eq!(pair.client.poll_timeout(), None, "there is no more to wait for");
    pair.client
        .handle_command(virtual_epoch(), EngineCommand::Close(Refusal::PublisherGone))
        .unwrap();
    pair.run(None).unwrap();
    assert!(!pair.server.is_publishing());
}

fn virtual_deadline(client: &Client) -> Instant {
    client.deadline.unwrap()
}

#[test]
fn a_refused_publication_says_why() {
    let mut pair = Pair::new(options(), None);
    let error = pair.run(Some(Refusal::StreamBusy)).unwrap_err();
    assert_eq!((error.class, error.reason), (ErrorClass::Refused, "server_refused"));
    assert!(error.detail.contains("NetStream.Publish.BadName"), "{error}");
}

#[test]
fn hops_travel_and_a_server_passed_before_is_left_alone() {
    let hops = Hops::default().with(NodeId(1)).with(NodeId(2));
    let mut pair = Pair::new(ClientOptions { hops: hops.clone(), ..options() }, Some(NodeId(3)));
    pair.run(None).unwrap();
    assert_eq!(pair.asked[0].hops, hops);
    assert!(matches!(
        pair.reports.as_slice(),
        [Event::PeerNode(NodeId(3)), Event::PlayRequested(_)]
    ));

    let mut circle = Pair::new(ClientOptions { hops, ..options() }, Some(NodeId(1)));
    let error = circle.run(None).unwrap_err();
    assert_eq!((error.reason, circle.asked.len()), ("loop", 0), "it is not even asked");

    let full = (10..).take(HOPS_MAX).fold(Hops::default(), |hops, id| hops.with(NodeId(id)));
    let mut far = Pair::new(ClientOptions { hops: full.clone(), ..options() }, Some(NodeId(1)));
    let error = far.run(None).unwrap_err();
    assert_eq!((error.reason, far.asked.len()), ("too_many_hops", 0));
    // A server of another kind does not count.
    let mut foreign = Pair::new(ClientOptions { hops: full, ..options() }, None);
    foreign.run(None).unwrap();
}

/// A server of few words: what the client says, and what it is told.
struct Foreign {
    client: Client,
    handshake: Option<ServerHandshake>,
    reader: Reader,
    writer: Writer,
    inbox: BytesMut,
    said: Vec<Command>,
    events: Vec<Event>,
}

impl Foreign {
    fn new(options: ClientOptions) -> Self {
        let mut reader = Reader::new(LIMITS);
        reader.set_chunk_size(options.chunk_size).unwrap();
        let mut foreign = Self {
            client: Client::new(virtual_epoch(), 0x0102_0304_0506_0708, Arc::new(options)),
            handshake: Some(ServerHandshake::new(1)),
            reader,
            writer: Writer::new(),
            inbox: BytesMut::new(),
            said: Vec::new(),
            events: Vec::new(),
        };
        foreign.listen();
        foreign
    }

    fn listen(&mut self) {
        while let Some(output) = self.client.poll_output() {
            match output {
                Output::Transmit(bytes) => self.inbox.extend_from_slice(&bytes),
                Output::Event(event) => self.events.push(event),
                Output::Datagram { .. } => panic!("RTMP has no datagrams"),
            }
        }
        if let Some(handshake) = &mut self.handshake {
            let mut answer = Vec::new();
            let done = handshake.handle_input(1, &mut self.inbox, &mut answer).unwrap();
            self.tell_bytes(&answer).unwrap();
            if !done {
                return;
            }
            self.handshake = None;
        }
        while let Some(message) = self.reader.next_message(&mut self.inbox).unwrap() {
            if message.type_id == type_id::COMMAND_AMF0 {
                self.said.push(Command::parse(&message).unwrap());
            }
        }
    }

    fn tell_bytes(&mut self, bytes: &[u8]) -> Result<(), SessionError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut input = BytesMut::from(bytes);
        let result = self.client.handle_input(virtual_epoch(), Input::Stream(&mut input));
        self.listen();
        result
    }

    fn tell(&mut self, command: &Command) -> Result<(), SessionError> {
        let mut bytes = Vec::new();
        let message = Message {
            chunk_stream_id: 3,
            timestamp: 0,
            type_id: type_id::COMMAND_AMF0,
            message_stream_id: 0,
            payload: command.encode(),
        };
        self.writer.write(&message, &mut bytes);
        self.tell_bytes(&bytes)
    }

    fn reject(&mut self, description: &str) -> Result<(), SessionError> {
        let information = information(Level::Error, code::CONNECT_REJECTED, description);
        self.tell(&Command::new("_error", 1.0).with(Value::Null).with(information))
    }

    fn heard(&self) -> Vec<&str> {
        self.said.iter().map(|command| command.name.as_str()).collect()
    }
}

fn connect_property<'a>(foreign: &'a Foreign, name: &str) -> &'a str {
    command::text_property(&foreign.said[0].values[0], name).unwrap_or_default()
}

#[test]
fn platforms_hear_what_encoders_say() {
    let mut foreign = Foreign::new(options());
    assert_eq!(foreign.heard(), ["connect"]);
    for (name, value) in [
        ("app", "live"),
        ("tcUrl", "rtmp://h/live"),
        ("swfUrl", "rtmp://h/live"),
        ("type", "nonprivate"),
    ] {
        assert_eq!(connect_property(&foreign, name), value, "{name}");
    }
    assert_eq!(connect_property(&foreign, "smartHops"), "", "nothing of ours without need");
    let success = information(Level::Status, code::CONNECT_SUCCESS, "");
    foreign.tell(&Command::new("_result", 1.0).with(Value::Null).with(success)).unwrap();
    assert_eq!(foreign.heard()[1..], ["releaseStream", "FCPublish", "createStream"]);
    // One that does not know the former two.
    let failed = information(Level::Error, code::CALL_FAILED, "");
    foreign.tell(&Command::new("_error", 2.0).with(Value::Null).with(failed)).unwrap();
    let created = Command::new("_result", 4.0).with(Value::Null).with(Value::Number(7.0));
    foreign.tell(&created).unwrap();
    assert_eq!(foreign.heard()[4..], ["publish"]);
    foreign.tell(&on_status(Level::Status, code::PUBLISH_START, "")).unwrap();
    let [Event::PlayRequested(request)] = foreign.events.as_slice() else { panic!("no start") };
    assert_eq!((request.message_stream_id, request.enhanced), (7, false), "legacy forms");
    let error = foreign.tell(&on_status(Level::Error, code::PUBLISH_BAD_NAME, "taken"));
    assert_eq!(error.unwrap_err().reason, "server_refused");
}

#[test]
fn who_is_asked_for_a_name_connects_again_with_it() {
    let credentials = Credentials { user: "u".to_owned(), password: "p".to_owned() };
    let named = ClientOptions { credentials: Some(credentials), ..options() };
    let mut foreign = Foreign::new(named.clone());
    foreign.reject("[ AccessManager.Reject ] : [ code=403 need auth; authmod=adobe ] : ").unwrap();
    let [Event::ConnectAgain(query)] = foreign.events.as_slice() else { panic!("no answer") };
    let again = ClientOptions { auth: Some(query.clone()), ..named.clone() };
    let mut foreign = Foreign::new(again);
    assert_eq!(connect_property(&foreign, "app"), "live?authmod=adobe&user=u");
    assert_eq!(connect_property(&foreign, "tcUrl"), "rtmp://h/live?authmod=adobe&user=u");
    foreign.reject("[ authmod=adobe ] : ?reason=needauth&user=u&salt=s&challenge=c").unwrap();
    let [Event::ConnectAgain(query)] = foreign.events.as_slice() else { panic!("no answer") };
    assert!(query.starts_with("authmod=adobe&user=u&challenge=01020304&response="), "{query}");
    let mut foreign = Foreign::new(ClientOptions { auth: Some(query.clone()), ..named });
    let error = foreign.reject("[ authmod=adobe ] : ?reason=authfailed").unwrap_err();
    assert_eq!(error.reason, "unauthorised");

    let mut nameless = Foreign::new(options());
    let error = nameless.reject("[ code=403 need auth; authmod=llnw ]").unwrap_err();
    assert_eq!(error.reason, "unauthorised");
}

#[test]
fn redirects_are_reported_whichever_way_they_come() {
    let mut elsewhere = match information(Level::Error, code::CONNECT_REJECTED, "moved") {
        Value::Object(properties) => properties,
        other => panic!("{other:?}"),
    };
    let to = command::object([("redirect", command::text("rtmp://other/live"))]);
    elsewhere.push(("ex".to_owned(), to));
    for name in ["_error", "onStatus"] {
        let mut foreign = Foreign::new(options());
        let values = Value::Object(elsewhere.clone());
        foreign.tell(&Command::new(name, 1.0).with(Value::Null).with(values)).unwrap();
        let [Event::Redirected(url)] = foreign.events.as_slice() else { panic!("{name}") };
        assert_eq!(url, "rtmp://other/live");
        assert_eq!(foreign.client.state(), ClientState::Ended);
    }
}

#[test]
fn a_server_that_never_says_start_is_given_up() {
    let mut foreign = Foreign::new(options());
    let at = foreign.client.poll_timeout().unwrap();
    foreign.client.handle_input(at - Duration::from_millis(1), Input::Timeout).unwrap();
    let error = foreign.client.handle_input(at, Input::Timeout).unwrap_err();
    assert_eq!((error.class, error.reason), (ErrorClass::TimedOut, "start_timeout"));
    assert_eq!(foreign.client.poll_timeout(), None);
}

/// What a client that plays `live/x?k=v` makes of a command.
fn after(name: &str, information: Value) -> (Result<(), SessionError>, Option<String>) {
    let now = virtual_epoch();
    let options = ClientOptions { stream: "x?k=v".to_owned(), role: Role::Play, ..options() };
    let mut client = Client::new(now, 1, Arc::new(options));
    client.phase = Phase::ExpectConnected;
    let command = Command::new(name, transaction::CONNECT).with(Value::Null).with(information);
    let result = client.on_command(now, &command);
    let outputs = std::iter::from_fn(|| client.poll_output());
    let url = outputs.into_iter().find_map(|output| match output {
        Output::Event(Event::Redirected(url)) => Some(url),
        _ => None,
    });
    assert_eq!(url.is_some(), client.state() == ClientState::Ended);
    (result, url)
}

fn rejected(extra: Value) -> Value {
    let code = command::text("NetConnection.Connect.Rejected");
    command::object([("level", command::text("error")), ("code", code), ("ex", extra)])
}

#[test]
fn servers_send_us_elsewhere_in_several_words() {
    let moved = |url: &str| {
        let properties = [("code", Value::Number(302.0)), ("redirect", command::text(url))];
        rejected(command::object(properties))
    };
    for (name, information, expected) in [
        ("_error", moved("rtmp://i:1936/live/y"), "rtmp://i:1936/live/y"),
        ("_error", moved("rtmp://i/other"), "rtmp://i/other/x?k=v"),
        ("onStatus", moved("rtmp://i/other/"), "rtmp://i/other/x?k=v"),
        ("_error", moved("rtmp://i/other?t=1"), "rtmp://i/other/x?t=1&k=v"),
        ("_error", moved("/other"), "rtmp://h/other/x?k=v"),
        ("onStatus", moved("//i/live/y?t=1"), "rtmp://i/live/y?t=1"),
        (
            "onStatus",
            command::object([
                ("level", command::text("status")),
                ("code", command::text(code::CONNECT_RECONNECT)),
                ("tcUrl", command::text("rtmp://i/live")),
            ]),
            "rtmp://i/live/x?k=v",
        ),
        (
            "onStatus",
            command::object([("code", command::text(code::CONNECT_RECONNECT))]),
            "rtmp://h/live/x?k=v",
        ),
    ] {
        assert_eq!(after(name, information), (Ok(()), Some(expected.to_owned())), "{name}");
    }
    let (result, url) = after("_error", rejected(Value::Null));
    assert_eq!((result.unwrap_err().reason, url), ("server_refused", None));
}

#[test]
fn who_publishes_goes_where_a_reconnect_request_says() {
    let asked = |properties: Vec<(&str, &str)>| {
        let properties =
            properties.iter().map(|&(name, value)| (name.to_owned(), command::text(value)));
        let information = Value::Object(properties.collect());
        let mut foreign = Foreign::new(options());
        let command = Command::new("onStatus", 0.0).with(Value::Null).with(information);
        let told = foreign.tell(&command).map_err(|error| error.reason);
        (told, foreign.client.state(), format!("{:?}", foreign.events))
    };
    let (told, state, events) =
        asked(vec![("code", code::CONNECT_RECONNECT), ("tcUrl", "//other:1936/live")]);
    assert_eq!((told, state), (Ok(()), ClientState::Ended));
    assert!(events.contains("Redirected(\"rtmp://other:1936/live\")"), "{events}");
    let (told, ..) = asked(vec![("code", code::CONNECT_RECONNECT)]);
    assert_eq!(told, Err("reconnect_requested"), "to the same server, after a pause");
}
