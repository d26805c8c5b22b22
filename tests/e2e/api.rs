//! The API: what it writes, whom it answers, whether its answers are what its document says, and
//! what of a peer's words gets into the log.

use std::io::{Read as _, Write as _};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tests::clients::{self, Publisher};
use tests::media::Clip;
use tests::process::Process;
use tests::rtmp::Peer;
use tests::server::{Config, Server};
use tests::{http, wait};

use crate::lifecycle::Recording;

const BOUND: Duration = Duration::from_secs(10);

/// A file as operators write them.
const FILE: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>
<config>
  <!-- two cores are enough for us -->
  <engine><cores>2</cores></engine>
  <rtmp>
    <port>0</port>        <!-- any port -->
    <chunksize>8192</chunksize>
  </rtmp>
  <rtsp>
    <port>0</port>
    <user>ann:planted-one</user>   <!-- Ann -->
    <user>bob:planted-two</user>
  </rtsp>
  <http>
    <port>0</port><sport>0</sport>
  </http>
  <events>
    <secret>planted-three</secret>
  </events>
</config>
";

fn get(server: &Server, path: &str) -> Value {
    let answer = http::get(server.http, path);
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
    assert_eq!(answer.header("access-control-allow-origin"), None, "{path}");
    serde_json::from_slice(&answer.body).expect("JSON")
}

fn put(server: &Server, path: &str, body: &Value) -> Value {
    let answer = http::send_json(server.http, "PUT", path, &body.to_string());
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    serde_json::from_slice(&answer.body).expect("JSON")
}

fn file(server: &Server, name: &str) -> String {
    std::fs::read_to_string(server.folder().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

#[test]
fn what_is_written_keeps_comments_and_secrets() {
    let server = Server::start(&Config::default().raw(FILE));
    let shown = get(&server, "/api/v1/config");
    assert_eq!(shown["options"]["rtsp/user"], json!(["ann:***", "bob:***"]));
    assert_eq!(shown["options"]["events/secret"], json!(["***"]));
    assert!(!shown.to_string().contains("planted"));
    // As it is shown it can be written back.
    let answer = put(&server, "/api/v1/config", &json!({ "options": shown["options"] }));
    assert_eq!(answer["changed"], json!([]), "{answer}");
    assert_eq!(file(&server, "config.xml"), FILE);
    let change = json!({ "options": { "rtmp/chunksize": 4096, "rtmp/play_wait": "2.5" } });
    let answer = put(&server, "/api/v1/config", &change);
    assert_eq!(answer["changed"], json!(["rtmp/chunksize", "rtmp/play_wait"]), "{answer}");
    let expected = FILE.replace(
        "<chunksize>8192</chunksize>\n",
        "<chunksize>4096</chunksize>\n    <play_wait>2.5</play_wait>\n",
    );
    assert_eq!(file(&server, "config.xml"), expected, "comments and order stay");
    assert_eq!(file(&server, "config.xml.bak"), FILE, "the file before is kept");
    // A restart is named, and the value is not in force.
    let answer = put(&server, "/api/v1/config", &json!({ "options": { "rtmp/port": 19350 } }));
    assert_eq!(answer["restart"], json!(["rtmp/port"]), "{answer}");
    assert_eq!(get(&server, "/api/v1/config")["restart"], json!(["rtmp/port"]));
    put(&server, "/api/v1/config", &json!({ "options": { "rtmp/port": "0" } }));
    // What would be refused is not written.
    for (change, status) in [
        (json!({ "options": { "rtmp/port": "x" } }), 422),
        (json!({ "options": { "rtmp/nothing": "1" } }), 422),
        (json!({ "options": { "rtmp/chunksize": [1024, 2048] } }), 422),
        (json!({ "options": { "rtmp/rec": "live" } }), 422),
        (json!({ "options": { "log": "a\u{1b}[2Jb" } }), 422),
        (json!({ "options": [] }), 422),
        // Three stars that stand for nothing.
        (json!({ "options": { "rtsp/user": ["ann:***", "eve:***"] } }), 422),
        (json!({ "options": { "auth/sign_key": ["***"] } }), 422),
    ] {
        let answer = http::send_json(server.http, "PUT", "/api/v1/config", &change.to_string());
        assert_eq!(answer.status, status, "{change}: {}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert_eq!(file(&server, "config.xml"), expected, "{change}");
    }
    assert_eq!(server.metrics().sum("smart_rtmpd_panics_total", &[]), 0.0);
}

/// Whoever edits the file by hand is not to find it overwritten, nor what he wrote in the other.
#[test]
fn a_file_that_changed_on_the_disk_is_not_written_over() {
    let server = Server::start(&Config::default().raw(FILE));
    // By hand, and with a fault: it will not be in force before it is mended.
    let by_hand = FILE.replace("</config>", "  <!-- to be gone on with -->\n");
    std::fs::write(server.folder().join("config.xml"), &by_hand).expect("the folder is writable");
    let change = json!({ "options": { "rtmp/chunksize": 4096 } }).to_string();
    let older = json!({ "rtmp": { "chunk_size": 4096 } }).to_string();
    for (path, change) in [("/api/v1/config", &change), ("/api/config", &older)] {
        let answer = http::send_json(server.http, "PUT", path, change);
        assert_eq!(answer.status, 409, "{}", answer.text());
        assert!(answer.text().contains("config.xml: has changed on the disk"), "{}", answer.text());
    }
    // The other file has nothing to do with it.
    let pulls = json!([{ "url": "rtsp://192.0.2.1/x", "stream": "live/cam" }]);
    let answer = put(&server, "/api/v1/policy", &json!({ "pulls": pulls }));
    assert_eq!((&answer["policy_changed"], &answer["late_shards"]), (&json!(true), &json!(0)));
    assert_eq!(file(&server, "config.xml"), by_hand);
    assert!(file(&server, "policy.xml").contains("192.0.2.1"));
    // Mended: it is read again, and then it can be written.
    let mended = format!("{by_hand}</config>\n");
    std::fs::write(server.folder().join("config.xml"), &mended).expect("the folder is writable");
    assert_eq!(http::send_json(server.http, "POST", "/api/v1/reload", "").status, 200);
    put(&server, "/api/v1/config", &json!({ "options": { "rtmp/chunksize": 4096 } }));
    assert_eq!(file(&server, "config.xml"), mended.replace("8192", "4096"));
}

#[test]
fn the_older_shapes_read_and_write_too() {
    let server = Server::start(&Config::default().raw(FILE));
    let shown = get(&server, "/api/config");
    assert_eq!(shown["rtmp"]["chunk_size"], 8192);
    assert_eq!(shown["http"]["rec_period"], 3);
    let change = json!({ "rtmp": { "chunk_size": "2048", "max_idle": 20 } }).to_string();
    let answer = http::send_json(server.http, "POST", "/api/config", &change);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(answer["http_port"], server.http);
    assert_eq!(answer["bak_config"], "config.xml.bak");
    assert_eq!(answer["changed"], json!(["rtmp/maxidle", "rtmp/chunksize"]));
    assert_eq!(get(&server, "/api/config")["rtmp"]["max_idle"], 20);
    let policy = json!({
        "vhosts": [],
        "urls": [],
        "pulls": [{ "url": "rtsp://u:planted@192.0.2.1/x", "stream": "live/cam" }],
    });
    let answer = http::send_json(server.http, "POST", "/api/policy", &policy.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    let shown = get(&server, "/api/policy");
    assert_eq!(shown["pulls"][0]["url"], "rtsp://***@192.0.2.1/x");
    let before = file(&server, "policy.xml");
    assert!(before.contains("u:planted@"), "{before}");
    let answer = http::send_json(server.http, "POST", "/api/policy", &shown.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(file(&server, "policy.xml"), before, "what was masked stays what it was");
    assert_eq!(get(&server, "/api/v1/policy"), shown);
    let pulls = get(&server, "/api/v1/pulls");
    assert_eq!(pulls["pulls"][0]["source"], "rtsp://***@192.0.2.1/x", "it is in force");
    assert!(server.api("/api/statistics")["shards"] == 2);
    let stream = server.api("/api/stream");
    assert_eq!(stream, server.api("/api/live"), "both names mean the same");
    assert!(!server.whole_log().contains("planted"), "a secret in the log");
}

#[test]
fn nobody_but_this_machine_changes_anything() {
    let server = Server::start(&Config::default().raw(FILE));
    let length = "Content-Length: 2";
    let json_type = "Content-Type: application/json";
    let send = |headers: &[&str], host: &str, body: &str| {
        let mut text = format!("PUT /api/v1/config HTTP/1.1\r\nHost: {host}\r\n");
        for header in headers {
            text += &format!("{header}\r\n");
        }
        text += &format!("Connection: close\r\n\r\n{body}");
        http::exchange(server.http, text.as_bytes(), false).expect("an answer")
    };
    let local = format!("127.0.0.1:{}", server.http);
    for (headers, host, status) in [
        (vec![json_type, length], "evil.example", 401),
        (vec![json_type, length, "Origin: http://evil.example"], local.as_str(), 403),
        (vec![json_type, length, "Sec-Fetch-Site: cross-site"], &local, 403),
        (vec![json_type, length, "X-Forwarded-For: 192.0.2.1"], &local, 401),
        (vec!["Content-Type: text/plain", length], &local, 415),
        (vec![length], &local, 415),
        (vec![json_type, length], &local, 422),
    ] {
        let answer = send(&headers, host, "{}");
        assert_eq!(answer.status, status, "{headers:?} {host}: {}", answer.text());
        assert_eq!(answer.header("www-authenticate").is_some(), status == 401);
    }
    let deep = format!("{{\"options\":{}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let answer = http::send_json(server.http, "PUT", "/api/v1/config", &deep);
    assert_eq!(answer.status, 422, "{}", answer.text());
    let twice = r#"{"options":{"log":"info","log":"debug"}}"#;
    assert_eq!(http::send_json(server.http, "PUT", "/api/v1/config", twice).status, 422);
    let answer = send(&[json_type, "Content-Length: 104857600"], &local, "");
    assert_eq!(answer.status, 413, "{}", answer.text());
    for path in ["/api/v1/config", "/api/v1/policy", "/api/v1/log", "/api/config", "/api/v1/system"]
    {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
        let answer = http::exchange(server.http, request.as_bytes(), false).expect("an answer");
        assert_eq!(answer.status, 401, "{path}: {}", answer.text());
    }
    // Other methods are refused with those there are.
    let answer = http::request(server.http, "PATCH", "/api/v1/streams", &[]);
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")));
    assert_eq!(http::get(server.http, "/api/v1/nothing").status, 404);
    assert_eq!(http::get(server.http, "/api/v1").status, 404);
    assert_eq!(file(&server, "config.xml"), FILE);
}

#[test]
fn sessions_are_listed_in_pages_and_ended_for_real() {
    let server = Server::start_default();
    let url = server.rtmp_url("seen");
    let Some(mut publisher) = Publisher::Ffmpeg.start(Clip::Canary, &url) else { return };
    server.wait_live("seen");
    let viewers: Vec<Recording> = (0..7).map(|_| Recording::flv(&server, "seen")).collect();
    let Some(ffmpeg) = clients::tool("ffmpeg") else { return };
    let mut command = Command::new(ffmpeg);
    command.args(["-v", "error", "-i", &url, "-f", "null", "-"]);
    let mut player = Process::spawn("ffmpeg player", command);
    let sessions = |path: &str| -> Vec<Value> {
        let mut all = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = get(&server, &format!("{path}limit=3{cursor}"));
            let list = page["sessions"].as_array().expect("a list").clone();
            assert!(list.len() <= 3);
            all.extend(list);
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return all,
            }
        }
    };
    let list = wait::until("nine sessions", BOUND, || {
        let list = sessions("/api/v1/sessions?");
        (list.len() == 9 && list.iter().all(|s| s["role"] != "idle")).then_some(list)
    });
    let mut ids: Vec<&str> = list.iter().filter_map(|s| s["id"].as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 9, "each once");
    let stream = "/api/v1/streams/default/live/seen";
    assert_eq!(sessions(&format!("{stream}/viewers?")).len(), 8);
    wait::until_true("all are counted", BOUND, || get(&server, stream)["viewers"]["total"] == 8);
    let shown = get(&server, stream);
    assert_eq!(
        shown["tracks"]["video"]["codec"],
        get(&server, &format!("{stream}/tracks"))["video"]["codec"]
    );
    assert!(shown["publisher"]["agent"].as_str().is_some_and(|agent| !agent.is_empty()));
    // The one that is ffmpeg's, by what it calls itself.
    let plays = sessions("/api/v1/sessions?role=play&");
    let of_ffmpeg =
        |s: &&Value| s["agent"].as_str().is_some_and(|a| a.contains("LNX") || a.contains("Lav"));
    let target =
        plays.iter().find(|s| s["protocol"] == "rtmp").or_else(|| plays.iter().find(of_ffmpeg));
    let id = target.and_then(|s| s["id"].as_str()).expect("ffmpeg plays by RTMP").to_owned();
    let path = format!("/api/v1/sessions/{id}");
    assert_eq!(get(&server, &path)["id"], id.as_str());
    assert_eq!(http::request(server.http, "DELETE", &path, &[]).status, 204);
    assert!(player.exited_within(BOUND).is_some(), "ffmpeg has been told to go");
    assert_eq!(http::get(server.http, &path).status, 404, "it is gone");
    assert_eq!(http::request(server.http, "DELETE", &path, &[]).status, 404);
    assert!(viewers.iter().all(Recording::open), "the others stay");
    assert_eq!(server.metrics().sum("smart_rtmpd_closed_total", &["kicked"]), 1.0);
    // All of a stream.
    let answer = http::request(server.http, "DELETE", stream, &[]);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(publisher.exited_within(BOUND).is_some(), "so has the publisher");
    let all_gone = || viewers.iter().all(|viewer| !viewer.open());
    wait::until_true("and the viewers", BOUND, all_gone);
    assert_eq!(http::request(server.http, "DELETE", stream, &[]).status, 404);
}

/// The server with something of everything in it.
fn busy() -> Option<(Server, Vec<Process>, Vec<Recording>)> {
    let clip = Clip::Canary.file()?;
    let policy = "<policy><pulls><pull url='file:a.flv' stream='live/film' when='always'/>\
        <pull url='rtsp://u:planted@192.0.2.1/x' stream='live/cam'/></pulls></policy>";
    let config = Config::default().set("http/record", "live/rec*").policy(policy);
    let server = Server::start(&config);
    std::fs::create_dir_all(server.folder().join("vod")).expect("a folder");
    std::fs::copy(clip, server.folder().join("vod/a.flv")).expect("a copy");
    let publishers = ["recorded", "a/b c"].map(|name| {
        let url = server.rtmp_url(&name.replace(' ', "%20"));
        Publisher::Ffmpeg.start(Clip::Canary, &url)
    });
    let publishers: Option<Vec<Process>> = publishers.into_iter().collect();
    let publishers = publishers?;
    server.wait_live("recorded");
    server.wait_live("film");
    let viewers = vec![Recording::flv(&server, "recorded"), Recording::rtmp(&server, "film")];
    viewers.iter().for_each(|viewer| viewer.wait_pictures(5));
    wait::until_true("a piece is begun", BOUND, || {
        http::get(server.http, "/api/v1/recordings/default/live%2Frecorded").status == 200
    });
    Some((server, publishers, viewers))
}

/// Every path of the document with what it needs filled in by a list that leads there.
fn targets(server: &Server) -> Vec<(String, String)> {
    let session = get(server, "/api/v1/sessions");
    let id = session["sessions"][0]["id"].as_str().expect("a session").to_owned();
    let recorded = "/api/v1/recordings/default/live%2Frecorded";
    let day = get(server, recorded)["days"][0].as_str().expect("a day").to_owned();
    let stream = "/api/v1/streams/default/live/recorded";
    let document = get(server, "/api/v1/openapi.json");
    let paths = document["paths"].as_object().expect("paths").clone();
    let filled = |path: &str| match path {
        "/api/v1/recordings/{vhost}" => "/api/v1/recordings/default".to_owned(),
        "/api/v1/recordings/{vhost}/{name}" => recorded.to_owned(),
        "/api/v1/recordings/{vhost}/{name}/{day}" => format!("{recorded}/{day}"),
        path if path.contains("{id}") => path.replace("{id}", &id),
        path => path.replace("/streams/{vhost}/{app}/{name}", &stream["/api/v1".len()..]),
    };
    let with_get = paths.iter().filter(|(_, methods)| methods.get("get").is_some());
    with_get.map(|(path, _)| (path.clone(), filled(path))).collect()
}

/// The schema of an answer, with what it refers to.
fn schema(document: &Value, path: &str, status: &str) -> Value {
    let responses = &document["paths"][path]["get"]["responses"][status]["content"];
    let content = responses.as_object().and_then(|types| types.values().next()).expect(path);
    let mut schema = content["schema"].clone();
    if let Some(object) = schema.as_object_mut() {
        object.insert("components".to_owned(), document["components"].clone());
    }
    schema
}

fn strict(mut schema: Value) -> Value {
    // A field that the document does not know is a fault of the document.
    let types = schema.pointer_mut("/components/schemas").and_then(Value::as_object_mut);
    if let Some(types) = types {
        for definition in types.values_mut() {
            if definition["type"] == "object" && definition.get("additionalProperties").is_none() {
                definition["additionalProperties"] = json!(false);
            }
        }
    }
    schema
}

#[test]
fn answers_are_what_the_document_says() {
    let Some((server, _publishers, _viewers)) = busy() else { return };
    let document = get(&server, "/api/v1/openapi.json");
    assert_eq!(document["openapi"], "3.1.0");
    let targets = targets(&server);
    assert!(targets.len() >= 16, "{targets:?}");
    for (path, target) in &targets {
        let answer = get(&server, target);
        let validator = jsonschema::validator_for(&strict(schema(&document, path, "200")))
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        let faults: Vec<String> = validator
            .iter_errors(&answer)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(faults.is_empty(), "{target}: {faults:#?}\n{answer:#}");
        assert!(!answer.to_string().contains("planted"), "{target}: a secret");
    }
    let missing = http::get(server.http, "/api/v1/streams/default/live/missing");
    assert_eq!(missing.status, 404);
    let problem: Value = serde_json::from_slice(&missing.body).expect("JSON");
    let validator = jsonschema::validator_for(&strict(schema(
        &document,
        "/api/v1/streams/{vhost}/{app}/{name}",
        "default",
    )))
    .expect("a schema");
    assert!(validator.is_valid(&problem), "{problem}");
    // Something is in each list, or the schemas were held against nothing.
    for (path, list) in [
        ("streams", "streams"),
        ("sessions", "sessions"),
        ("pulls", "pulls"),
        ("recordings/default", "recordings"),
        ("log", "lines"),
    ] {
        let answer = get(&server, &format!("/api/v1/{path}"));
        assert!(answer[list].as_array().is_some_and(|list| !list.is_empty()), "{path}: {answer}");
    }
    let system = get(&server, "/api/v1/system");
    assert!(system["cpus"].as_array().is_some_and(|cpus| !cpus.is_empty()), "{system}");
    assert!(system["memory"]["total"].as_u64() > Some(1 << 20), "{system}");
    // Pages of names.
    let first = get(&server, "/api/v1/streams?limit=1");
    let next = first["next"].as_str().expect("there are more").to_owned();
    let second = get(&server, &format!("/api/v1/streams?limit=1&cursor={next}"));
    assert_ne!(first["streams"], second["streams"]);
}

#[test]
fn the_api_is_fuzzed_by_its_document() {
    let Some((mut server, _publishers, _viewers)) = busy() else { return };
    let url = format!("http://127.0.0.1:{}/api/v1/openapi.json", server.http);
    let arguments = [
        "--max-examples",
        "40",
        "--seed",
        "1",
        "--phases",
        "examples,coverage,fuzzing,stateful",
        "--checks",
        "not_a_server_error,status_code_conformance,content_type_conformance,\
         response_headers_conformance,response_schema_conformance,negative_data_rejection,\
         unsupported_method",
        "--request-timeout",
        "10",
        "--generation-database",
        "none",
    ];
    let bound = Duration::from_secs(240);
    let Some((clean, said)) = clients::schemathesis(&url, &arguments, bound) else { return };
    assert!(clean, "{said}");
    assert!(server.alive());
    assert_eq!(server.metrics().sum("smart_rtmpd_panics_total", &[]), 0.0);
}

#[test]
fn peers_cannot_write_the_log() {
    let server = Server::start_default();
    let agent = "FMLE\r\nINJECTED line\n\u{1b}[2J\u{202e}";
    for name in ["x\r\nINJECTED", "\u{1b}[2J", "a\nb", "\u{202e}abc", "x?token=planted-key"] {
        let mut peer = Peer::shaken(server.rtmp).expect("shakes hands");
        peer.connect_as(server.rtmp, "live", agent).expect("connects");
        let stream = peer.create_stream().expect("a stream");
        // Refused or not: what counts is the log.
        let _ = peer.publish(stream, name);
        let mut peer = Peer::shaken(server.rtmp).expect("shakes hands");
        peer.connect_as(server.rtmp, "live", agent).expect("connects");
        let stream = peer.create_stream().expect("a stream");
        let arguments = [tests::rtmp::null(), tests::rtmp::string(name)].concat();
        peer.command("play", stream, &arguments).expect("is sent");
    }
    for target in
        ["/live/x%0d%0aINJECTED.flv", "/live/%1b%5b2J.flv", "/api/v1/streams/a%0aINJECTED/b/c"]
    {
        let mut socket = http::connect(server.http).expect("connects");
        write!(socket, "GET {target} HTTP/1.1\r\nHost: h\r\nUser-Agent: x\tINJECTED\r\nConnection: close\r\n\r\n")
            .expect("is sent");
        let _ = socket.read(&mut [0; 512]);
    }
    let mut publisher = Peer::shaken(server.rtmp).expect("shakes hands");
    publisher.connect_as(server.rtmp, "live", agent).expect("connects");
    let stream = publisher.create_stream().expect("a stream");
    assert_eq!(publisher.publish(stream, "plain").expect("an answer"), "NetStream.Publish.Start");
    let sessions = get(&server, "/api/v1/sessions?role=publish");
    let shown = sessions["sessions"].as_array().expect("a list");
    let plain = shown.iter().find(|s| s["stream"]["name"] == "plain").expect("it publishes");
    let agent = plain["agent"].as_str().expect("an agent");
    assert!(agent.contains("\\r\\nINJECTED") && !agent.contains(char::is_control), "{agent}");
    server.wait_log("publishing live/plain", BOUND);
    let log = server.whole_log();
    for line in log.lines() {
        assert!(!line.starts_with("INJECTED"), "{line}");
        assert!(!line.contains(|c: char| c.is_control() || c == '\u{202e}'), "{line:?}");
        assert!(!line.contains("planted-key"), "{line}");
    }
    let kept = get(&server, "/api/v1/log?limit=500");
    let lines = kept["lines"].as_array().expect("lines");
    assert!(lines.len() > 5);
    for line in lines {
        server.wait_log(line["text"].as_str().expect("a text"), BOUND);
    }
    let from = kept["next"].as_u64().expect("a number");
    let newer = get(&server, &format!("/api/v1/log?from={from}"));
    let newer = newer["lines"].as_array().expect("lines");
    assert!(newer.iter().all(|line| line["number"].as_u64() >= Some(from)), "{newer:?}");
    // Whoever counts from a longer log, that of an earlier process, comes back to this one.
    let beyond = get(&server, "/api/v1/log?from=1000000000");
    assert_eq!(beyond["lines"], json!([]));
    assert!(beyond["next"].as_u64().is_some_and(|next| (from..1_000_000).contains(&next)));
}
