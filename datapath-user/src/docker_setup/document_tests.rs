use proptest::prelude::*;
use serde_json::{Map, Value};

use super::*;

/// Files as people write them.
const FILES: &[&str] = &[
    "{}",
    "{}\n",
    "{ }\n",
    "{\n}\n",
    "{\n  \"log-driver\": \"json-file\"\n}\n",
    "{\n\t\"log-driver\": \"json-file\",\n\t\"log-opts\": {\"max-size\": \"10m\", \"iptables\": true}\n}",
    "{\r\n    \"data-root\" : \"/srv/docker\",\r\n    \"iptables\" : true\r\n}\r\n",
    "{\"a\":1}",
    "{\"a\":1,\"iptables\":false,\"b\":[1,2 , 3]}",
    "{ \"userland-proxy\": true, \"a\": \"}{,\\\"iptables\\\": \" }",
    "{\n  \"iptables\": false,\n  \"ip6tables\": false,\n  \"userland-proxy\": false\n}\n",
    "  {\n\n  \"ip6tables\": true,\n\n  \"hosts\": [\"fd://\"]\n\n  }\n\n",
    "{\"\\u0069ptables\": true, \"é\": \"ü\"}",
];

fn parsed(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Everything but our keys.
fn others(text: &str) -> Vec<String> {
    let document = Document::parse(text).expect("an object");
    let others = document.members.iter().filter(|member| !KEYS.contains(&member.key.as_str()));
    others.map(|member| text[member.name.start..member.value.end].to_owned()).collect()
}

#[track_caller]
fn enable_keeps_all_else_and_disable_is_its_inverse(text: &str) {
    let enabled = enable(Some(text)).expect("an object");
    for key in KEYS {
        assert_eq!(parsed(&enabled).get(key), Some(&Value::Bool(false)), "{key} in {enabled}");
    }
    assert_eq!(others(&enabled), others(text), "other keys keep their bytes and order");
    assert_eq!(enable(Some(&enabled)).expect("an object"), enabled, "a second time changes nothing");
    let back = disable(&enabled, Some(text)).expect("objects");
    assert_eq!(back, Undone { text: Some(text.to_owned()), exact: true, kept: Vec::new() });
}

#[test]
fn files_as_people_write_them() {
    for text in FILES {
        enable_keeps_all_else_and_disable_is_its_inverse(text);
    }
}

#[test]
fn the_style_of_the_file_is_followed() {
    let cases = [
        ("{\"a\":1}", "{\"a\":1,\"iptables\":false,\"ip6tables\":false,\"userland-proxy\":false}"),
        (
            "{\n\t\"a\": 1\n}\n",
            "{\n\t\"a\": 1,\n\t\"iptables\": false,\n\t\"ip6tables\": false,\n\t\"userland-proxy\": false\n}\n",
        ),
        (
            "{ \"ip6tables\": true, \"a\": {} }",
            "{ \"ip6tables\": false, \"a\": {}, \"iptables\": false, \"userland-proxy\": false }",
        ),
    ];
    for (text, wanted) in cases {
        assert_eq!(enable(Some(text)).expect("an object"), wanted);
    }
    let new = "{\n  \"iptables\": false,\n  \"ip6tables\": false,\n  \"userland-proxy\": false\n}\n";
    assert_eq!(enable(None).expect("no text"), new);
}

#[test]
fn a_file_that_was_not_there_goes_again() {
    let enabled = enable(None).expect("no text");
    assert_eq!(disable(&enabled, None).expect("objects"), Undone { text: None, exact: true, kept: Vec::new() });
    let reformatted = enabled.replace("\n  ", " ");
    assert_eq!(disable(&reformatted, None).expect("objects").text, None, "nothing of anybody else is in it");
}

#[test]
fn changes_of_others_since_are_kept() {
    let enabled = enable(Some("{\n  \"iptables\": true\n}\n")).expect("an object");
    let changed =
        enabled.replacen('{', "{\n  \"debug\": true,", 1).replace("\"ip6tables\": false", "\"ip6tables\": true");
    let undone = disable(&changed, Some("{\n  \"iptables\": true\n}\n")).expect("objects");
    let text = "{\n  \"debug\": true,\n  \"iptables\": true,\n  \"ip6tables\": true\n}\n";
    assert_eq!(undone, Undone { text: Some(text.to_owned()), exact: false, kept: vec!["ip6tables"] });
}

#[test]
fn what_is_no_object_is_refused() {
    for text in
        ["", " \n", "null", "[]", "[{}]", "\"{}\"", "{", "{}x", "{\"a\":1,}", "{a: 1}", "// {}\n{}", "\u{feff}{}"]
    {
        assert!(enable(Some(text)).is_err(), "{text}");
    }
    let twice = enable(Some("{\"iptables\": true, \"iptables\": false}")).expect_err("which of them is meant?");
    assert!(format!("{twice:#}").contains("more than once"), "{twice:#}");
}

fn json() -> impl Strategy<Value = String> {
    let blank = || prop::sample::select(vec!["", " ", "\n", "\n  ", "\r\n\t", "\n\n    "]);
    let word = "[a-zé\\PC]{0,6}";
    let leaf = prop_oneof![
        Just("true".to_owned()),
        Just("false".to_owned()),
        "-?[1-9][0-9]{0,5}(\\.[0-9]{1,3})?",
        word.prop_map(|word| serde_json::to_string(&word).expect("a string")),
        Just("{\"iptables\": true, \"x\" : [ ]}".to_owned()),
        Just("[1,\n {\"ip6tables\":1}]".to_owned()),
    ];
    let name = prop_oneof![
        2 => word.prop_filter("not ours", |word| !KEYS.contains(&word.as_str())),
        1 => prop::sample::select(KEYS.map(str::to_owned).to_vec()),
    ];
    let member = (name, leaf, blank(), blank(), blank(), blank());
    (prop::collection::vec(member, 0..8), blank(), blank(), blank()).prop_map(|(members, before, inside, after)| {
        let mut ours = Vec::new();
        let mut written = Vec::new();
        for (name, value, a, b, c, d) in members {
            if KEYS.contains(&name.as_str()) && ours.contains(&name) {
                continue;
            }
            ours.push(name.clone());
            written.push(format!("{a}{}{b}:{c}{value}{d}", serde_json::to_string(&name).expect("a string")));
        }
        let inside = if written.is_empty() { inside.to_owned() } else { written.join(",") };
        format!("{before}{{{inside}}}{after}")
    })
}

proptest! {
    #[test]
    fn enable_then_disable_is_the_identity(text in json()) {
        enable_keeps_all_else_and_disable_is_its_inverse(&text);
    }

    /// Without the short cut through the text of before: key by key.
    #[test]
    fn taking_single_keys_back_restores_every_byte(text in json()) {
        prop_assume!(!Document::parse(&text).expect("an object").is_empty());
        let enabled = enable(Some(&text)).expect("an object");
        let since = format!("{enabled}\n");
        let undone = disable(&since, Some(&text)).expect("objects");
        prop_assert_eq!(undone.text, Some(format!("{text}\n")));
        prop_assert!(undone.kept.is_empty());
    }
}
