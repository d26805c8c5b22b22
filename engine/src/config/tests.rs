//! The shipped file, a file as the reference writes it, and files that must be refused.

use super::*;
use std::fmt::Write as _;
use std::time::Duration;

fn parse(text: &str) -> Result<Config, ConfigError> {
    load_str("config.xml", text, Path::new("."))
}

fn inside(body: &str) -> Result<Config, ConfigError> {
    parse(&format!("<config>\n{body}\n</config>"))
}

/// `UPDATE_REFERENCE=1 cargo test -p engine shipped` rewrites the file.
#[test]
fn the_shipped_file_is_the_rendered_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config.xml");
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(&path, reference_text()).expect("writable");
    }
    let shipped = std::fs::read_to_string(&path).expect("config.xml at the root");
    assert!(shipped == reference_text(), "config.xml differs; run with UPDATE_REFERENCE=1");
    assert_eq!(parse(&shipped).expect("valid"), Config::default());
    let mut loaded = Document::load(&path).expect("valid").config;
    assert!(loaded.base_dir.is_absolute() && loaded.http.html_dir.is_absolute());
    loaded.base_dir = ".".into();
    loaded.http.html_dir = "./html".into();
    loaded.http.vod_dir = "./vod".into();
    loaded.record.dir = "./rec".into();
    loaded.auth.token_file = "./admin.token".into();
    assert_eq!(loaded, Config::default());
}

#[test]
fn every_option_is_in_the_shipped_file() {
    let text = reference_text();
    for opt in options::table() {
        let (element, attribute) = opt.path.split_once('@').unwrap_or((opt.path, ""));
        let name = element.rsplit('/').next().unwrap_or_default();
        let starts = |line: &&str| {
            let line = line.trim_start();
            line.starts_with(&format!("<{name}>")) || line.starts_with(&format!("<{name} "))
        };
        let mut lines = text.lines().filter(starts);
        let shown = match attribute {
            "" => lines.next().is_some(),
            attribute => lines.any(|line| line.contains(&format!(" {attribute}=\""))),
        };
        assert!(shown || text.contains(opt.path), "{}", opt.path);
    }
}

#[test]
fn a_file_of_the_reference_is_accepted_with_a_warning_per_missing_feature() {
    let config = parse(include_str!("upstream.xml")).expect("accepted unchanged");
    assert_eq!(config.elapse, Config::default().elapse);
    assert_eq!(config.rtmp.publisher_idle, Duration::from_secs(12));
    assert!(!config.rtmp.gop_enable && !config.rtmp.ssl && !config.http.ssl);
    assert!(config.http.hls && config.http.dash);
    assert_eq!(config.sock.send_buffer_kib, 4096, "cut");
    let features = ["SRT", "WebRTC", "SIP"];
    for feature in features {
        let named = |warning: &&String| warning.contains(&format!(": {feature}"));
        assert_eq!(config.warnings.iter().filter(named).count(), 1, "{:#?}", config.warnings);
    }
    assert_eq!(config.warnings.len(), features.len(), "{:#?}", config.warnings);
}

#[test]
fn values_arrive_typed() {
    let config = inside(
        "<elapse>fixed:20</elapse><engine><cores>0,1</cores></engine><log>engine=debug,info</log>
         <vhosts><vhost>A.example</vhost><vhost name='b.example'/></vhosts>
         <rtmp><play_wait>0.25</play_wait><ip>::1</ip><publish_policy>takeover</publish_policy>
         <port> 19350 </port></rtmp><http><denyfile>.PHP</denyfile><flv>false</flv>
         <api_allow>10.0.0.0/8</api_allow></http>
         <nat><rtmp>cdn.example:1936</rtmp></nat>",
    )
    .expect("valid");
    assert_eq!(config.elapse, MergeWindow::Fixed(Duration::from_millis(20)));
    assert_eq!(config.engine.cores, model::Cores::List(vec![0, 1]));
    assert_eq!(config.vhosts, ["a.example", "b.example"]);
    assert_eq!(config.rtmp.play_wait, Duration::from_millis(250));
    assert_eq!(config.rtmp.port, 19_350);
    assert_eq!(config.rtmp.second_publisher, SecondPublisher::Takeover);
    assert_eq!(config.http.deny_extensions, ["php"]);
    assert!(!config.http.flv);
    assert_eq!(config.http.api_allow, ["10.0.0.0/8"]);
    assert_eq!(config.nat.rtmp.and_then(|host| host.port), Some(1936));
}

#[test]
fn elements_of_one_name_keep_their_attributes_together() {
    let config = inside(
        "<authurl timeout='500' router='/r/'>https://auth.example/base</authurl>
         <auth><method>GET</method><secret>s</secret>
         <user name='a' password='1' roles='publisher,api'/>
         <user password='2' name='b' streams='live/b*, rec/b'/>
         <user/>
         <address roles='player' deny='10.0.0.0/8'/><address allow='*'/>
         <sign_key>0123456789abcdef</sign_key><sign_key>fedcba9876543210</sign_key>
         <require>player</require></auth>
         <rtsp><user>cam:secret</user></rtsp>",
    )
    .expect("valid");
    let auth = config.auth;
    let hook = auth.hook.expect("a server");
    assert_eq!((hook.url.authority().as_str(), hook.url.tls), ("auth.example", true));
    assert_eq!((hook.url.path.as_str(), hook.router.as_str()), ("/base", "/r"));
    assert_eq!((hook.timeout, hook.get), (Duration::from_millis(500), true));
    let users: Vec<_> = auth
        .users
        .iter()
        .map(|user| (user.name.as_str(), format!("{:?}", user.roles), user.streams.len()))
        .collect();
    let both = || "{Publisher, Player}".to_owned();
    let expected = [("a", "{Publisher, Api}".to_owned(), 0), ("b", both(), 2), ("cam", both(), 0)];
    assert_eq!(users, expected);
    assert_eq!(auth.addresses.len(), 2);
    assert_eq!((auth.addresses[0].deny.len(), auth.addresses[1].allow.len()), (1, 1));
    assert_eq!(auth.sign_keys.len(), 2);
    assert!(!format!("{:?}", auth.users).contains("secret"));
}

/// A file of keys that cannot be used is told of with the line that names it.
#[test]
fn files_of_keys_are_checked_with_the_file() {
    let folder = std::env::temp_dir().join(format!("config-keys-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("writable");
    let file = folder.join("config.xml");
    let text = "<config>\n<auth>\n<jwt_key>missing.pem</jwt_key>\n</auth>\n</config>";
    std::fs::write(&file, text).expect("writable");
    let document = Document::load(&file).expect("valid");
    let rules = document.rules("config.xml", &document.config).map(drop);
    let error = rules.expect_err("no such file").to_string();
    assert!(error.contains("config.xml:3: auth/jwt_key: "), "{error}");
    assert!(error.contains("missing.pem cannot be read"), "{error}");
    std::fs::remove_dir_all(&folder).expect("ours");
}

/// Body between `<config>` on line 1 and `</config>`, and the sentence after `config.xml:2: `.
const BAD_BODIES: &[(&str, &str)] = &[
    ("<rtpm/>", "rtpm: is not a known option, did you mean rtmp?"),
    ("<rtmp><prot>1</prot></rtmp>", "rtmp/prot: is not a known option, did you mean rtmp/port?"),
    (
        "<rtmp><a/></rtmp>",
        "rtmp/a: is not a known option, see the shipped config.xml for all of them",
    ),
    ("<rtmp x='1'/>", "rtmp@x: is not a known option, see the shipped config.xml for all of them"),
    (
        "<rtmp><port><a/></port></rtmp>",
        "rtmp/port/a: is not a known option, see the shipped config.xml for all of them",
    ),
    ("<rtmp><port>70000</port></rtmp>", "rtmp/port: \"70000\" is not a port, allowed 0–65535"),
    ("<rtmp><port>-1</port></rtmp>", "rtmp/port: \"-1\" is not a port, allowed 0–65535"),
    ("<rtmp><port>0x10</port></rtmp>", "rtmp/port: \"0x10\" is not a port, allowed 0–65535"),
    (
        "<rtmp><chunksize>64</chunksize></rtmp>",
        "rtmp/chunksize: \"64\" is not a whole number, allowed 128–16777215 bytes",
    ),
    (
        "<rtmp><chunksize>99999999999999999999</chunksize></rtmp>",
        "rtmp/chunksize: \"99999999999999999999\" is not a whole number, allowed \
         128–16777215 bytes",
    ),
    ("<rtmp><ssl>maybe</ssl></rtmp>", "rtmp/ssl: \"maybe\" is not true or false"),
    ("<rtmp><ip>1.2.3</ip></rtmp>", "rtmp/ip: \"1.2.3\" is not an IPv4 or IPv6 address or empty"),
    (
        "<rtmp><maxidle>NaN</maxidle></rtmp>",
        "rtmp/maxidle: \"NaN\" is not a number, allowed 0–86400 s",
    ),
    (
        "<rtmp><live>a/b</live></rtmp>",
        "rtmp/live: \"a/b\" is not a name of 1–64 letters, digits, dot, dash and underscore",
    ),
    (
        "<rtmp><live>..</live></rtmp>",
        "rtmp/live: \"..\" is not a name of 1–64 letters, digits, dot, dash and underscore",
    ),
    (
        "<rtmp><publish_policy>fight</publish_policy></rtmp>",
        "rtmp/publish_policy: \"fight\" is not one of reject, takeover",
    ),
    (
        "<engine><cores>many</cores></engine>",
        "engine/cores: \"many\" is not auto, a count 1–256, or a list of CPUs such as \
         0,2,4-7 or [3]",
    ),
    ("<elapse>5000</elapse>", "elapse: \"5000\" is not milliseconds as 0–1000 or fixed:0–1000"),
    (
        "<log>verbose</log>",
        "log: \"verbose\" is not off, error, warn, info, debug, trace, or a list of module=level",
    ),
    (
        "<nat><http>a:b</http></nat>",
        "nat/http: \"a:b\" is not a host with an optional :port, or empty",
    ),
    (
        "<vhosts><vhost>rtmp://x</vhost></vhosts>",
        "vhosts/vhost: \"rtmp://x\" is not a host name or address",
    ),
    (
        "<http><api_allow>lan</api_allow></http>",
        "http/api_allow: \"lan\" is not a comma list of addresses or address/bits, *, or none",
    ),
    ("<rtmp/>\n<rtmp/>", ""),
    (
        "<rtmp><port>1</port><port>2</port></rtmp>",
        "rtmp/port: is given twice, first on line 2; keep one",
    ),
    (
        "<http><flv>true</flv></http><rtmp><hasflv>true</hasflv></rtmp>",
        "rtmp/hasflv: is given twice, first on line 2; keep one",
    ),
    (
        "<rtmp>1935</rtmp>",
        "rtmp: text \"1935\" between elements; a value belongs inside its own element",
    ),
    (
        "<ssl><servercert>a.pem</servercert></ssl>",
        "ssl/servercert: is set without ssl/serverkey; set both or neither",
    ),
    ("<rtmp><rec>live</rec></rtmp>", "rtmp/rec: is \"live\" like rtmp/live; give it another name"),
    ("<http><port>1935</port></http>", "http/port: is 1935 like rtmp/port; give each its own port"),
    (
        "<authurl>ftp://a</authurl>",
        "authurl: \"ftp://a\" is not host:port, an http:// or https:// URL without user, query \
         and fragment, or empty",
    ),
    (
        "<authurl router='api'>a:1</authurl>",
        "authurl@router: \"api\" is not a path such as /api/auth, or empty",
    ),
    (
        "<auth><ask>players</ask></auth>",
        "auth/ask: \"players\" is not a comma list of publisher, player, api, upload, download, \
         or empty",
    ),
    (
        "<auth><user password='x'/></auth>",
        "auth/user@name: is missing or has a colon, which no user name has",
    ),
    ("<auth><user name='x'/></auth>", "auth/user@password: is empty"),
    (
        "<auth><user name='x' password='$2b$12$abc'/></auth>",
        "auth/user@password: looks like a hash, of which only Argon2 is known here",
    ),
    (
        "<auth><user name='x' password='a'/><user name='x' password='b'/></auth>",
        "auth/user@name: \"x\" is the name of two users; keep one",
    ),
    ("<rtsp><user>nobody</user></rtsp>", "rtsp/user: is not NAME:PASSWORD"),
    ("<auth><sign_key>short</sign_key></auth>", "auth/sign_key: is shorter than 16 characters"),
    (
        "<auth><jwt_secret>short</jwt_secret></auth>",
        "auth/jwt_secret: is shorter than 32 characters",
    ),
    (
        "<auth><jwt_key>a.pem</jwt_key><jwt_jwks>b.json</jwt_jwks></auth>",
        "auth/jwt_jwks: is set beside auth/jwt_key; keep one",
    ),
    (
        "<auth><jwt_issuer>a</jwt_issuer></auth>",
        "auth/jwt_issuer: is set without a key that tokens could be checked with",
    ),
    (
        "<auth><address deny='lan'/></auth>",
        "auth/address@deny: \"lan\" is not a comma list of addresses or address/bits, *, or none",
    ),
    (
        "<ssl><serverca>ca.pem</serverca></ssl>",
        "ssl/serverca: this build does not check client certificates and would accept \
         everybody; empty serverca, a certificate chain belongs in servercert",
    ),
    (
        "<vhosts><url name='rtmp://a/live/b'><forward>c</forward></url></vhosts>",
        "vhosts/url/forward: forward rules are not read from config.xml; move them to policy.xml",
    ),
    ("<rtmp a='1' a='2'/>", "rtmp@a: is given twice, first on line 2; keep one"),
    (
        "<rtmp><live>&lol;</live></rtmp>",
        "rtmp/live: entity &lol; is not allowed, only &amp; &lt; &gt; &quot; &apos; and numbers",
    ),
    (
        "<rtmp a='&lol;'/>",
        "rtmp: entity &… in an attribute; is not allowed, only &amp; &lt; &gt; &quot; \
         &apos; and numbers",
    ),
];

#[test]
fn bad_bodies_give_one_sentence_each() {
    for (body, sentence) in BAD_BODIES {
        let error = inside(body).expect_err(body).to_string();
        match *sentence {
            "" => {
                assert_eq!(error, "config.xml:3: rtmp: is given twice, first on line 2; keep one")
            }
            _ => assert_eq!(error, format!("config.xml:2: {sentence}")),
        }
    }
}

#[test]
fn bad_documents_give_one_sentence_each() {
    let dtd = "<?xml version='1.0'?>\n<!DOCTYPE c [<!ENTITY a 'aaaa'>\
        <!ENTITY b '&a;&a;'>]>\n<config>&b;</config>";
    let external = "<!DOCTYPE c SYSTEM 'file:///etc/passwd'><config/>";
    let deep = format!("<config>{}", "<sip>".repeat(40));
    let mut attributes = "<config".to_owned();
    for index in 0..80_000 {
        let _ = write!(attributes, " a{index}=''");
    }
    attributes.push_str("/>");
    let many = format!("<config><vhosts>{}</vhosts></config>", "<vhost/>".repeat(20_000));
    let huge = format!("<config>{}</config>", " ".repeat(10 << 20));
    for (text, sentence) in [
        ("", ": holds no element, expected <config>"),
        ("<!-- only this -->", ": holds no element, expected <config>"),
        ("<policy/>", ":1: the root element is <policy>, expected <config>"),
        ("<config/>\n<config/>", ":2: is not well-formed XML: a second root element <config>"),
        (
            "<config/>\ntail",
            ":1: text \"tail\" between elements; a value belongs inside its own element",
        ),
        (
            "<config>\n<rtmp>",
            ":2: rtmp: the file ends before </rtmp>; it is truncated or a closing tag is missing",
        ),
        (dtd, ":2: document type declarations are not allowed; remove <!DOCTYPE …>"),
        (external, ":1: document type declarations are not allowed; remove <!DOCTYPE …>"),
        (&deep, "deeper than 16"),
        (&attributes, ":1: config: has more than 32 attributes"),
        (&many, "more than 10000 elements"),
        (&huge, ": is larger than 1048576 bytes, which no configuration needs"),
        (
            "<?xml version='1.0' encoding='gbk'?><config/>",
            ":1: is declared as gbk; save it as UTF-8 and declare encoding=\"UTF-8\"",
        ),
        ("<config></rtmp>", "is not well-formed XML: "),
        ("<config><rtmp></config>", "is not well-formed XML: "),
        ("<config", "is not well-formed XML: "),
        ("<config><a b></a></config>", "is not well-formed XML: "),
        ("<config><!-- open", "is not well-formed XML: "),
        ("<config>&</config>", "is not well-formed XML: "),
        ("{\"rtmp\":{}}", "text \"{\\\"rtmp\\\":{}}\" between elements"),
    ] {
        let shown: String = text.chars().take(60).collect();
        let error = parse(text).expect_err(&shown).to_string();
        match sentence.starts_with(':') {
            true => assert_eq!(error, format!("config.xml{sentence}")),
            false => assert!(error.contains(sentence), "{shown}: {error}"),
        }
    }
}

#[test]
fn bytes_that_are_not_utf8_name_line_or_encoding() {
    for (bytes, sentence) in [
        (
            b"<config>\n<log>\xb0\xa1</log></config>".as_slice(),
            "c.xml:2: is not UTF-8 text; save it as UTF-8",
        ),
        (
            b"<?xml version='1.0' encoding='gb2312'?>\n<!-- \xb0\xa1 --><config/>",
            "c.xml:1: is declared as gb2312; save it as UTF-8 and declare encoding=\"UTF-8\"",
        ),
        (
            b"\xff\xfe<\0c\0",
            "c.xml:1: is declared as UTF-16; save it as UTF-8 and declare encoding=\"UTF-8\"",
        ),
    ] {
        assert_eq!(xml::decode("c.xml", bytes).expect_err("not text").to_string(), sentence);
    }
    assert!(parse("\u{feff}<config/>").is_ok(), "a byte order mark is no obstacle");
    let error = Document::load(Path::new("no-such/config.xml")).expect_err("missing").to_string();
    assert!(error.starts_with("no-such/config.xml: cannot be read ("), "{error}");
}

#[test]
fn any_bytes_give_a_configuration_or_a_sentence() {
    let seeds = [
        reference_text(),
        include_str!("upstream.xml").to_owned(),
        include_str!("../../../policy.xml").to_owned(),
        "<config><rtmp a='&#x41;'><port>&#49;</port><![CDATA[ ]]></rtmp></config>".to_owned(),
    ];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % below.max(1)
    };
    for iteration in 0..5_000 {
        let seed = seeds[iteration % seeds.len()].as_bytes();
        let from = if iteration % 3 == 0 { 0 } else { random(seed.len()) };
        let mut data = b"<config>".to_vec();
        data.extend(seed.iter().skip(from).take(random(1500)));
        for _ in 0..random(8) {
            let at = random(data.len());
            match random(3) {
                0 => data[at] = b"<>/&;'\"!?= \n-x\x00\xff"[random(16)],
                1 => drop(data.remove(at)),
                _ => data.insert(at, random(256) as u8),
            }
        }
        fuzz_xml(&data);
    }
}

#[test]
fn segments_are_made_always_for_all_or_some_apps() {
    let always = |text: &str| {
        let config = inside(&format!("<http><hlsalways>{text}</hlsalways></http>")).expect(text);
        ["live", "rec", "true"].map(|app| config.http.segment_always.contains(app))
    };
    assert_eq!(always(""), [false; 3]);
    assert_eq!(always("false"), [false; 3]);
    assert_eq!(always("none"), [false; 3]);
    assert_eq!(always("true"), [true; 3]);
    assert_eq!(always("live"), [true, false, false]);
    assert_eq!(always("rec, true"), [false, true, true]);
    assert!(inside("<http><hlsalways>live/x</hlsalways></http>").is_err());
}

/// A value of an option that is not its default.
pub(crate) fn other_value(opt: &options::Opt) -> String {
    use options::Kind;
    let next = |min: u64, max: u64| {
        let default: u64 = opt.default.parse().expect("a whole number");
        let other = if default < max { default + 1 } else { default - 1 };
        assert!((min..=max).contains(&other), "{}", opt.path);
        other.to_string()
    };
    match opt.kind {
        Kind::Bool => (opt.default != "true").to_string(),
        // RTP wants it even.
        Kind::Int(..) if opt.path == "rtsp/multicast@port" => "20002".to_owned(),
        Kind::Int(min, max) => next(min, max),
        Kind::Port => next(0, 65_535),
        Kind::Millis(min, max) | Kind::Seconds(min, max) | Kind::Minutes(min, max) => {
            next(min.into(), max.into())
        }
        Kind::Ip => "192.0.2.1".to_owned(),
        Kind::Text => "name:a word of 32 characters, or more".to_owned(),
        Kind::Path | Kind::App | Kind::Opaque => "other".to_owned(),
        Kind::Names if opt.path == "events/kinds" => "publish".to_owned(),
        Kind::Names => "other".to_owned(),
        Kind::Endings => "_a".to_owned(),
        Kind::Networks => "192.0.2.0/24".to_owned(),
        Kind::Patterns => "live/a*".to_owned(),
        Kind::OneOf(words) => {
            (*words.iter().find(|word| **word != opt.default).expect("two words")).to_owned()
        }
        Kind::HostPort | Kind::Host => "h.example".to_owned(),
        Kind::Groups => "239.255.0.1-239.255.0.9".to_owned(),
        Kind::Roles => "publisher".to_owned(),
        Kind::UrlPath => "/other".to_owned(),
        Kind::AuthUrl | Kind::HttpUrl => "http://127.0.0.1:9/".to_owned(),
        Kind::Window => "fixed:7".to_owned(),
        Kind::Cores => "1".to_owned(),
        Kind::Log => "debug".to_owned(),
    }
}

/// A configuration in which this option, and what must go with it, is not at its default.
pub(crate) fn changed(opt: &'static options::Opt) -> Config {
    let edit = |path: &str| {
        let opt = options::find(path).expect("an option");
        Edit { opt, values: vec![other_value(opt)] }
    };
    let mut edits = vec![edit(opt.path)];
    match opt.path {
        "ssl/servercert" => edits.push(edit("ssl/serverkey")),
        "ssl/serverkey" => edits.push(edit("ssl/servercert")),
        "ssl/clientcert" => edits.push(edit("ssl/clientkey")),
        "ssl/clientkey" => edits.push(edit("ssl/clientcert")),
        path if path.starts_with("rtsp/multicast@") => edits.push(edit("rtsp/multicast")),
        path if asks(path) => edits.push(edit("authurl")),
        "auth/require" => edits.push(edit("auth/sign_key")),
        "auth/jwt_issuer" | "auth/jwt_audience" => edits.push(edit("auth/jwt_secret")),
        _ => {}
    }
    let empty = Document::parse("c.xml", "<config/>", Path::new(".")).expect("valid");
    let text = empty.edited(&edits).expect("no value is masked");
    parse(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// It says how an authorisation server is asked.
fn asks(path: &str) -> bool {
    let words = ["ask", "method", "http_type", "ca", "secret", "cache", "recheck"];
    path.starts_with("authurl@")
        || path.strip_prefix("auth/").is_some_and(|word| words.contains(&word))
}

#[test]
fn every_option_that_is_honoured_changes_the_configuration() {
    let default = parse("<config/>").expect("valid");
    let alone = |opt: &&options::Opt| !opt.is_of_group();
    let honoured = options::table().filter(|opt| opt.support == options::Support::Yes);
    for opt in honoured.filter(alone) {
        let other = changed(opt);
        // A larger bound of uploads counts instead of this one.
        assert!(other != default || opt.path == "http/httpmaxbody", "{}", opt.path);
        let restart = diff_reloadable(&default, &other);
        assert_eq!(restart.is_empty(), opt.reloadable, "{}: {restart:?}", opt.path);
    }
}

#[test]
fn wrong_secrets_are_not_told() {
    let error = inside("<events><url>ftp://u:planted@h/?k=planted</url></events>");
    let error = error.expect_err("no http").to_string();
    assert!(error.contains("ftp://***@h/?***") && !error.contains("planted"), "{error}");
}
