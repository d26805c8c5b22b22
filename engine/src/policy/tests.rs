//! Rules that are read, placeholders that are ignored, and files that are refused.

use super::*;
use crate::config::Config;

#[test]
fn rules_of_both_kinds_are_read_wherever_the_url_stands() {
    let text = r#"<policy>
  <vhosts>
    <vhost name="rtmp://www.example.org/live">
      <forward rewrite="">192.0.2.2</forward>
      <forward rewrite="rtmps://b.example:1936/sport">192.0.2.3:1936</forward>
      <forward rewrite=""></forward>
    </vhost>
    <url name="rtmp://a.example/live/x"><forward>[2001:db8::1]:1935</forward></url>
    <vhost name=""><forward>192.0.2.9</forward></vhost>
  </vhosts>
  <urls><url name="rtmp://a.example/live/y"></url></urls>
</policy>"#;
    let policy = load_str("policy.xml", text).expect("valid");
    assert_eq!(policy.vhosts.len(), 1, "a rule without a name is a placeholder");
    let hosts: Vec<_> = policy.vhosts[0].forward.iter().map(|f| f.host.host.as_str()).collect();
    assert_eq!(hosts, ["192.0.2.2", "192.0.2.3"]);
    assert_eq!(policy.vhosts[0].forward[1].rewrite, "rtmps://b.example:1936/sport");
    assert_eq!(policy.urls.len(), 2);
    assert!(ActivePolicy::new(policy, &Config::default()).unwrap().forwards());
}

#[test]
fn the_shipped_policy_and_placeholders_have_no_active_rule() {
    let shipped = include_str!("../../../policy.xml");
    for text in [
        shipped,
        "<policy/>",
        "<policy><vhosts/><urls><url name=''><forward rewrite=''></forward></url></urls></policy>",
        "<policy><urls><url name='rtmp://a/live/x'><forward/></url></urls></policy>",
    ] {
        let policy = load_str("policy.xml", text).expect("valid");
        assert!(!ActivePolicy::new(policy, &Config::default()).unwrap().forwards(), "{text}");
    }
    assert_eq!(read_text(Path::new("no-such-policy.xml")), Ok(String::new()));
}

#[test]
fn bad_policies_give_one_sentence_each() {
    for (text, sentence) in [
        ("", "p.xml: holds no element, expected <policy>"),
        ("<config/>", "p.xml:1: the root element is <config>, expected <policy>"),
        (
            "<policy><vhost/></policy>",
            "p.xml:1: policy/vhost: is not a known option, did you mean vhosts?",
        ),
        (
            "<policy>\n<urls><url name='http://a/b/c'/></urls></policy>",
            "p.xml:2: urls/url@name: \"http://a/b/c\" is not rtmp://host/app or \
             rtmps://host/app, for a url with /stream",
        ),
        (
            "<policy><urls>\
             <url name='rtmp://a/b/c'><forward>a:b:c:d x</forward></url></urls></policy>",
            "p.xml:1: urls/url/forward: \"a:b:c:d x\" is not a host with an optional :port",
        ),
        (
            "<policy><urls>\
             <url name='rtmp://a/b/c'><forward rewrite='x'>a</forward></url></urls></policy>",
            "p.xml:1: urls/url/forward@rewrite: \"x\" is not an rtmp:// or rtmps:// URL or empty",
        ),
        (
            "<policy><urls><url name='rtmp://a/live'/></urls></policy>",
            "p.xml:1: urls/url@name: \"rtmp://a/live\" is not the complete URL of a stream",
        ),
        (
            "<policy><urls><url name='rtmp://a/live/x'>\
             <forward rewrite='rtmp://u:p@b/live'>b</forward></url></urls></policy>",
            "p.xml:1: urls/url/forward@rewrite: \"rtmp://***@b/live\" is not the complete URL \
             of a stream",
        ),
        (
            "<policy><urls/>\n<urls/></policy>",
            "p.xml:2: urls: is given twice, first on line 1; keep one",
        ),
    ] {
        let error = load_str("p.xml", text).expect_err(text);
        assert_eq!(error.to_string(), sentence);
    }
}
