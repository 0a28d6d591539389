//! Names by which a secret can be looked up, and the characters that they may contain.

use serde_json::json;

use psi_harness::{Config, FakeInfisical, Instance, id, reference};

#[test]
fn unusual_keys_are_requested_unchanged() {
    let keys = [
        "my.key",
        "with space",
        "ключ",
        "鍵🔑",
        "a-b_c",
        "%41",
        "100%",
        "a+b",
        "a&b=c",
        "q?x",
        "h#x",
        "semi;colon",
        "quo\"te",
        "back\\slash",
        "...",
    ];
    let directory: serde_json::Map<_, _> =
        keys.iter().map(|key| ((*key).to_owned(), json!(format!("value of {key}")))).collect();
    let mut infisical = FakeInfisical::with(&json!({"/myapp": directory}));
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).workload("myapp", "/myapp", false));
    let psid = instance.start();
    for key in keys {
        let found = instance.driver(&["get", &reference("/myapp", key)]).text();
        assert_eq!(found, format!("value of {key}"));
    }
    instance.driver(&["cache", "refresh"]).ok();
    assert_eq!(psid.status()["last_refresh"]["unchanged"], json!(keys.len()));
    infisical.kill();
    for key in keys {
        let found = instance.driver(&["get", &format!("myapp--{key}")]).text();
        assert_eq!(found, format!("value of {key}"));
    }
}

/// A URL's path cannot contain `.` and `..`: such a key fails alone and is no outage.
#[test]
fn key_that_fits_no_url_affects_no_other_secret() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1", "B": "2"}}));
    let instance = Instance::of(&infisical);
    let psid = instance.start();
    for key in ["..", "."] {
        let outcome = instance.driver(&["get", &reference("/myapp", key)]).run();
        assert!([65, 66].contains(&outcome.code), "{}: {}", outcome.code, outcome.stderr);
    }
    assert_eq!(instance.driver(&["get", &reference("/myapp", "A")]).text(), "1");
    assert_eq!(psid.status()["providers"][0]["up"], true);
}

/// A URL cannot exceed some KiB: such a reference is refused when it is stored, and is no outage
/// when it is looked up.
#[test]
fn name_that_fits_no_url_affects_no_other_secret() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    let psid = instance.start();
    let long = "k".repeat(100_000);
    let too_long = "k".repeat(2_500);
    for (reference, why) in [
        (reference("/myapp", &long), "is longer than 2600 bytes"),
        (reference("/myapp", &too_long), "have more than 2000 bytes"),
        (reference(&long, "A"), "is longer than 4096 bytes"),
    ] {
        let line = instance.driver(&["store"]).id(id(1)).stdin(&reference).fails(65);
        assert!(line.contains(why), "{line}");
        instance.driver(&["get", &reference]).fails(65);
    }
    assert_eq!(instance.driver(&["get", &reference("/myapp", "A")]).text(), "1");
    assert_eq!(psid.status()["providers"][0]["up"], true);
}

/// An error is sent in a header. One that quoted 17,000 bytes did not fit: psi-driver tried again
/// for ten seconds, under podman's lock, and then reported that psid broke the connection.
#[test]
fn refusal_of_a_long_request_is_received() {
    let infisical = FakeInfisical::with(&json!({}));
    let instance = Instance::of(&infisical);
    let _psid = instance.start();
    let long = "v".repeat(50_000);
    let reference = |member: &str, value: &str| {
        let mut reference = json!({"provider": "infisical", "project": "myproject", "key": "K"});
        reference[member] = json!(value);
        reference.to_string()
    };
    for reference in
        [reference("provider", &long), reference("project", &long), reference(&long, "")]
    {
        let line = instance.driver(&["get", &reference]).fails(65);
        assert!(line.contains("the reference is not usable: "), "{line}");
    }
}

#[test]
fn equivalent_spellings_of_a_directory_are_one_entry() {
    let infisical = FakeInfisical::with(&json!({"/my/app": {"A": "1"}, "/": {"R": "root"}}));
    let instance = Instance::of(&infisical);
    let psid = instance.start();
    for path in ["/my/app", "/my/app/", "my/app", "//my//app//"] {
        assert_eq!(instance.driver(&["get", &reference(path, "A")]).text(), "1");
    }
    let in_root = json!({"provider": "infisical", "project": "myproject", "key": "R"}).to_string();
    for text in [in_root, reference("/", "R"), reference("", "R")] {
        assert_eq!(instance.driver(&["get", &text]).text(), "root");
    }
    assert_eq!((infisical.reads(), psid.status()["entries"].as_u64()), (2, Some(2)));
}

#[test]
fn get_accepts_id_workload_name_and_reference() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).workload("myapp", "/myapp", false));
    let _psid = instance.start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    instance.driver(&["store"]).id(id(2)).stdin("a literal").ok();
    let get = |name: &str| instance.driver(&["get", name]).text();
    assert_eq!(get(&id(1)), "1");
    assert_eq!(get(&id(2)), "a literal");
    assert_eq!(get("myapp--A"), "1");
    assert_eq!(get(&reference("/myapp", "A")), "1");
    assert_eq!(infisical.reads(), 1);
}

#[test]
fn later_of_two_directories_wins() {
    let infisical =
        FakeInfisical::with(&json!({"/a": {"K": "a", "ONLY": "only a"}, "/b": {"K": "b"}}));
    let instance = Instance::of(&infisical);
    let mut config = Config::of(&infisical);
    config.rest = "[workloads.myapp]\nprovider = \"infisical\"\nsecrets = [\n\
                   { project = \"myproject\", path = \"/a\" },\n\
                   { project = \"myproject\", path = \"/b\" } ]\n"
        .into();
    instance.configure(&config);
    let _psid = instance.start();
    assert_eq!(instance.driver(&["get", "myapp--K"]).text(), "b");
    assert_eq!(instance.driver(&["get", "myapp--ONLY"]).text(), "only a");
}

#[test]
fn unknown_name_is_66() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).workload("myapp", "/myapp", false));
    let _psid = instance.start();
    for name in ["nobody--A", "myapp--", "a--", "", "just-a-name"] {
        // Another test covers podman's own names.
        let line = instance.driver(&["get", name]).env("PATH", "/nowhere").fails(66);
        assert!(line.starts_with(&format!("psictl: get {name}: ")), "{line}");
    }
    let line = instance.driver(&["get", "myapp--NONE"]).env("PATH", "/nowhere").fails(66);
    assert!(line.contains("Infisical has no secret 'NONE' in /myapp"), "{line}");
    let line = instance.driver(&["get", "{broken"]).fails(65);
    assert!(line.contains("no JSON object of strings with a \"provider\""), "{line}");
    let line = instance.driver(&["get", "{\"provider\":\"vault\"}"]).fails(65);
    assert!(line.contains("no [providers.vault]"), "{line}");
    let line = instance.driver(&["lookup"]).id(id(9)).fails(66);
    assert!(line.contains("no such secret registered; see `podman secret ls`"), "{line}");
}

/// The `url` crate drops tabs and line feeds: `.\t.` was the parent directory, which changed the
/// route.
#[test]
fn control_characters_and_dot_segments_are_never_in_a_url() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1", "ab": "2"}}));
    let instance = Instance::of(&infisical);
    let psid = instance.start();
    instance.driver(&["get", &reference("/myapp", "A")]).ok();
    infisical.clear_log();
    for key in [
        ".\t.",
        "\t",
        "a\tb",
        "a\nb",
        "\r\n",
        "A\u{0}",
        "\u{1b}[2J",
        "\u{7f}",
        "\u{85}",
        "\u{9b}1m",
        "..",
        ".",
    ] {
        let reference = reference("/myapp", key);
        let line = instance.driver(&["get", &reference]).fails(65);
        assert!(!line.contains(char::is_control), "{line:?}");
        let line = instance.driver(&["store"]).id(id(1)).stdin(&reference).fails(65);
        assert!(line.contains("the key '"), "{line}");
    }
    for path in ["/my\tapp", "/a/../b", "/a/./b", "/..", "/\n", "/a\u{1b}b", "/a/.\t./b", "/\u{85}"]
    {
        let reference = reference(path, "A");
        instance.driver(&["get", &reference]).fails(65);
        let line = instance.driver(&["store"]).id(id(1)).stdin(&reference).fails(65);
        assert!(line.contains("the path '"), "{line}");
    }
    for project in ["my\tproject", "\u{0}", "..", "\u{9d}"] {
        let reference =
            json!({"provider": "infisical", "project": project, "path": "/", "key": "A"});
        instance.driver(&["get", &reference.to_string()]).fails(65);
    }
    assert!(infisical.log().is_empty(), "{:?}", infisical.log());
    assert_eq!(psid.status()["providers"][0]["up"], true);
}

/// A server, or an attacker in its place, lists names that no reference can have.
#[test]
fn listed_name_with_control_characters_is_ignored() {
    let infisical =
        FakeInfisical::with(&json!({"/myapp": {"A": "1", "B\n[Service]": "2", "C\u{9b}1m": "3"}}));
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).workload("myapp", "/myapp", false));
    let psid = instance.start();
    let outcome = instance.driver(&["cache", "refresh"]).run();
    let output = String::from_utf8(outcome.stdout).unwrap() + &outcome.stderr;
    assert!(outcome.code != 0 && output.contains("contains a control character"), "{output}");
    assert!(!output.chars().any(|c| c.is_control() && c != '\n'), "{output:?}");
    assert_eq!(psid.status()["entries"], 1);
    assert_eq!(instance.driver(&["get", "myapp--A"]).text(), "1");
}
