//! Who writes what, and what the watch takes for known.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::{Accepted, Cause, Contents, Files, ReloadError, Reloader, Running};
use crate::config::Document;
use crate::events::Events;
use crate::policy::{ActivePolicy, Policy};
use crate::ring::{ControlMessage, Mesh, MeshEnd};

/// A reloader with one shard that is taken for quick, and its folder.
struct Place {
    folder: PathBuf,
    reloader: Reloader,
    shard: MeshEnd,
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Place {
    fn new(name: &str, config: &str, files: &[(&str, &str)]) -> Self {
        let folder = std::env::temp_dir().join(format!("reload-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        for (name, text) in files.iter().chain(&[("config.xml", config), ("policy.xml", POLICY)]) {
            fs::write(folder.join(name), text).unwrap();
        }
        let path = |name: &str| folder.join(name);
        let document = Document::load(&path("config.xml")).unwrap();
        let config = Arc::new(document.config.clone());
        let (mut ends, remote) = Mesh::new(1, 2, 64).into_ends();
        let named = Contents::of_named(&config, &Policy::default(), false);
        let running = Running {
            policy: Policy::default(),
            active: ActivePolicy::none(),
            events: Events::default(),
            remote,
            applied: [AtomicU64::new(u64::MAX)].into(),
            tls: None,
            rules: Arc::new(document.rules("config.xml", &config).unwrap()),
            upkeep: None,
            upkeep_counts: Arc::default(),
            config,
        };
        let accepted = Accepted { document, policy_text: POLICY.to_owned() };
        let files = Files { config: path("config.xml"), policy: path("policy.xml") };
        let reloader = Reloader::new(files, accepted, named, running);
        Self { reloader, folder, shard: ends.remove(0) }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.join(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.join(name)).unwrap()
    }

    /// The watch has nothing to do.
    fn is_known(&self) -> bool {
        self.reloader.knows(&self.reloader.look())
    }
}

const CONFIG: &str = "<config><rtmp><maxidle>3</maxidle></rtmp></config>";
const POLICY: &str = "<policy></policy>";
const OTHER: &str = "<config><rtmp><maxidle>5</maxidle></rtmp><!-- by hand --></config>";

#[test]
fn only_the_file_that_is_edited_is_written() {
    let place = Place::new("writes", CONFIG, &[]);
    // Somebody saves the other file, and it is not in force yet.
    place.write("config.xml", OTHER);
    let report = place.reloader.write_policy(|_| Ok("<policy><urls/></policy>".to_owned()));
    assert!(report.outcome.is_ok(), "{report:?}");
    assert_eq!(place.read("config.xml"), OTHER);
    assert_eq!(place.read("policy.xml"), "<policy><urls/></policy>");
    assert_eq!(place.reloader.accepted().document.text, CONFIG, "nobody has asked for it");
    assert!(!place.is_known(), "the watch reads what was saved");
    assert!(place.reloader.reload(Cause::Signal).outcome.is_ok());
    assert!(place.is_known());
    assert_eq!(place.reloader.accepted().document.text, OTHER);
    assert_eq!(place.read("config.xml"), OTHER);
    assert!(!place.folder.join("config.xml.bak").exists());
}

#[test]
fn a_file_that_was_saved_since_it_was_read_is_not_overwritten() {
    let place = Place::new("meanwhile", CONFIG, &[]);
    let edit = |old: &Document| Ok(old.text.replace("<maxidle>", "<maxidle> "));
    let refused = |place: &Place| {
        let report = place.reloader.write_config(edit);
        let Err(ReloadError::Changed(_)) = &report.outcome else { panic!("{report:?}") };
        assert_eq!(place.read("config.xml"), OTHER);
        assert!(!place.is_known(), "the watch reads what was saved");
    };
    place.write("config.xml", OTHER);
    refused(&place);
    place.write("config.xml", CONFIG);
    // And while it is edited.
    let report = place.reloader.write_config(|old| {
        place.write("config.xml", OTHER);
        edit(old)
    });
    assert!(matches!(report.outcome, Err(ReloadError::Changed(_))), "{report:?}");
    refused(&place);
    assert!(place.reloader.reload(Cause::Api).outcome.is_ok());
    let report = place.reloader.write_config(edit);
    assert!(report.outcome.is_ok(), "{report:?}");
    assert!(place.read("config.xml").contains("<maxidle> 5"));
    assert!(place.is_known());
}

#[test]
fn a_change_of_both_files_reaches_a_shard_as_one() {
    let mut place = Place::new("both", CONFIG, &[]);
    place.write("config.xml", OTHER);
    place.write(
        "policy.xml",
        "<policy><pulls><pull url='rtsp://h/x' stream='live/x'/></pulls></policy>",
    );
    assert!(place.reloader.reload(Cause::Signal).outcome.is_ok());
    let Some(ControlMessage::Reconfigure(new)) = place.shard.next_control() else { panic!() };
    assert_eq!((new.config.rtmp.publisher_idle.as_secs(), new.policy.pulls.len()), (5, 1));
    assert!(!place.shard.has_work(), "nothing comes behind it");
    assert!(place.reloader.reload(Cause::Signal).outcome.is_ok());
    assert!(!place.shard.has_work(), "what is the same is not told again");
}

#[test]
fn an_edit_that_is_refused_does_not_make_the_disk_known() {
    let place = Place::new("refused", CONFIG, &[]);
    fs::write(place.folder.join("config.xml"), OTHER).unwrap();
    let refuse = |_: &Document| Err(ReloadError::Refused("no".to_owned()));
    assert!(place.reloader.write_config(refuse).outcome.is_err());
    assert!(!place.is_known());
    fs::write(place.folder.join("config.xml"), "<config>").unwrap();
    assert!(place.reloader.reload(Cause::File).outcome.is_err());
    assert!(place.is_known(), "a file with a fault is told of once");
}

#[test]
fn files_that_are_named_are_watched_and_read_again() {
    let certificate = || {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        made.cert.pem()
    };
    let text = "<config><auth><jwt_jwks>keys.json</jwt_jwks></auth>\
        <authurl>https://127.0.0.1:1</authurl>\
        <events><url>https://127.0.0.1:1/</url><ca>events.pem</ca></events></config>";
    let with_ca = text.replace("<jwt_jwks>", "<ca>ca.pem</ca><jwt_jwks>");
    let key = |id: &str| {
        format!(
            "{{\"keys\":[{{\"kty\":\"EC\",\"crv\":\"P-256\",\"kid\":\"{id}\",\"alg\":\"ES256\",\
             \"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\",\
             \"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"}}]}}"
        )
    };
    let files =
        [("keys.json", &*key("a")), ("ca.pem", &*certificate()), ("events.pem", &*certificate())];
    let mut place = Place::new("named", &with_ca, &files);
    let rules = |place: &Place| Arc::clone(&place.reloader.lock().rules);
    let before = rules(&place);
    // The events of the place are nobody's yet.
    assert!(place.reloader.reload(Cause::Signal).outcome.is_ok());
    assert!(matches!(place.shard.next_control(), Some(ControlMessage::Reconfigure(_))));
    assert!(place.reloader.reload(Cause::Signal).outcome.is_ok());
    assert!(Arc::ptr_eq(&before, &rules(&place)), "who was let in stays so");
    assert!(!place.shard.has_work());
    for (name, text) in
        [("keys.json", key("b")), ("ca.pem", certificate()), ("events.pem", certificate())]
    {
        let before = rules(&place);
        replace(&place.folder.join(name), &text);
        assert!(!place.is_known(), "{name}");
        place.reloader.reload_changed();
        assert!(place.is_known(), "{name}");
        let told = matches!(place.shard.next_control(), Some(ControlMessage::Reconfigure(_)));
        assert!(told && !place.shard.has_work(), "{name}");
        let same = Arc::ptr_eq(&before, &rules(&place));
        assert_eq!(same, name == "events.pem", "{name}");
    }
}

/// As whoever renews a certificate does it.
fn replace(path: &Path, text: &str) {
    let fresh = path.with_extension("new");
    fs::write(&fresh, text).unwrap();
    fs::rename(fresh, path).unwrap();
}
