//! The kinds of a stored secret: a reference, or a literal that is encrypted before it reaches the
//! disk.

use std::fs;

use serde_json::json;

use psi_harness::{Config, FakeInfisical, Instance, directory_holds, id, reference};

fn instance_with(infisical: &FakeInfisical) -> Instance {
    Instance::of(infisical)
}

#[test]
fn reference_is_recognised_and_stored_unchanged() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"DB_HOST": "db.example"}}));
    let instance = instance_with(&infisical);
    let psid = instance.start();
    let texts = [
        reference("/myapp", "DB_HOST"),
        // Blanks and the order of members are kept.
        " {\n \"key\": \"DB_HOST\", \"path\":\"/myapp\", \"project\":\"myproject\",\n\"provider\":\"infisical\" }\n"
            .to_owned(),
    ];
    for (number, text) in (0..).zip(&texts) {
        instance.driver(&["store"]).id(id(number)).stdin(text).ok();
        assert_eq!(instance.driver(&["lookup"]).id(id(number)).text(), "db.example");
        assert_eq!(instance.registered(&id(number)), text.as_bytes());
    }
    let status = psid.status();
    assert_eq!((&status["references"], &status["literals"]), (&json!(2), &json!(0)));
}

#[test]
fn text_that_is_no_reference_is_a_literal() {
    let infisical = FakeInfisical::with(&json!({}));
    let instance = instance_with(&infisical);
    let psid = instance.start();
    let texts = [
        "hunter2",
        "{}",
        "[\"provider\"]",
        "{\"provider\":1}",
        "{\"providers\":\"infisical\"",
        "\"infisical\"",
    ];
    for (number, text) in (0..).zip(texts) {
        instance.driver(&["store"]).id(id(number)).stdin(text).ok();
        assert_eq!(instance.driver(&["lookup"]).id(id(number)).text(), text);
    }
    assert_eq!(psid.status()["literals"], json!(texts.len()));
    assert_eq!(infisical.reads(), 0);
}

#[test]
fn kind_option_overrides_detection() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"DB_HOST": "db.example"}}));
    let instance = instance_with(&infisical);
    let _psid = instance.start();
    let text = reference("/myapp", "DB_HOST");
    instance.driver(&["store", "--literal"]).id(id(1)).stdin(&text).ok();
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), text);
    instance.driver(&["store", "--reference"]).id(id(2)).stdin(&text).ok();
    assert_eq!(instance.driver(&["lookup"]).id(id(2)).text(), "db.example");
}

/// Otherwise the container would get the JSON as its password.
#[test]
fn near_reference_is_refused_with_the_literal_option() {
    let infisical = FakeInfisical::with(&json!({}));
    let instance = instance_with(&infisical);
    let _psid = instance.start();
    for (text, cause) in [
        ("{\"provider\":\"infisicl\",\"project\":\"p\",\"key\":\"K\"}", "no [providers.infisicl]"),
        ("{\"provider\":\"nitrokeyhsm\",\"blob\":\"hunter2\"}", "no [providers.pkcs11]"),
        ("{'provider':'infisical','key':'hunter2'}", "is no JSON: key must be a string"),
        ("{\"provider\":\"infisical\",\"key\":\"hunter2\",}", "is no JSON: trailing comma"),
        ("{\"provider\":\"infisical\"", "is no JSON: EOF"),
        ("\u{feff}{provider: infisical}", "is no JSON: "),
    ] {
        let line = instance.driver(&["store"]).id(id(1)).stdin(text).fails(65);
        assert!(line.contains(cause), "{line}");
        assert!(line.contains("`psictl add NAME --literal` stores it as a literal"), "{line}");
        assert!(!line.contains("hunter2"), "{line}");
        instance.driver(&["store", "--literal"]).id(id(1)).stdin(text).ok();
        assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), text);
        instance.driver(&["delete"]).id(id(1)).ok();
    }
}

#[test]
fn unresolvable_reference_is_refused_with_its_cause() {
    let infisical = FakeInfisical::with(&json!({}));
    let instance = instance_with(&infisical);
    let _psid = instance.start();
    let cases = [
        (json!({"provider": "infisical", "project": "myproject", "path": "/"}), "has no \"key\""),
        (json!({"provider": "infisical", "key": "K"}), "has no \"project\""),
        (
            json!({"provider": "infisical", "project": "other", "key": "K"}),
            "no [providers.infisical.projects.other]",
        ),
        (
            json!({"provider": "infisical", "project": "myproject", "key": 5}),
            "not every member is a string",
        ),
        (json!({"provider": "infisical", "project": "myproject", "key": ""}), "has no \"key\""),
        // A misspelt member would silently mean the root directory.
        (
            json!({"provider": "infisical", "project": "myproject", "key": "K", "pth": "/a"}),
            "\"pth\" is not a member",
        ),
    ];
    for (text, cause) in &cases {
        for kind in [&["store"][..], &["store", "--reference"]] {
            let line = instance.driver(kind).id(id(1)).stdin(text.to_string()).fails(65);
            assert!(
                line.contains("the reference is not usable: ") && line.contains(cause),
                "{line}"
            );
            assert!(line.contains("; correct it, or the config"), "{line}");
        }
    }
    for text in ["hunter2", "{}"] {
        let line = instance.driver(&["store", "--reference"]).id(id(1)).stdin(text).fails(65);
        assert!(line.contains("no JSON object with a \"provider\""), "{line}");
        assert!(!line.contains("hunter2"), "{line}");
    }
    assert_eq!(instance.driver(&["list"]).text(), "");
}

#[test]
fn literal_is_encrypted_and_nowhere_in_plaintext() {
    let infisical = FakeInfisical::with(&json!({}));
    let instance = instance_with(&infisical);
    let psid = instance.start();
    let value = b"a literal with a unique text";
    instance.driver(&["store"]).id(id(1)).stdin(value).ok();
    let sealed = fs::read(instance.state().join("secrets").join(id(1))).unwrap();
    assert_eq!(&sealed[..6], b"PSIL\x02\x01");
    assert_eq!(directory_holds(instance.directory(), &value[..]), None);
    let log = psid.terminate();
    assert!(!log.contains("with a unique text"), "{log}");
    assert_eq!(directory_holds(instance.directory(), &value[..]), None);
    let _psid = instance.start();
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).ok(), value);
}

#[test]
fn two_writes_of_one_literal_share_no_ciphertext() {
    let infisical = FakeInfisical::with(&json!({}));
    let instance = instance_with(&infisical);
    let _psid = instance.start();
    for number in [1, 2] {
        instance.driver(&["store"]).id(id(number)).stdin("the same value").ok();
    }
    let sealed = |number| fs::read(instance.state().join("secrets").join(id(number))).unwrap();
    let (one, two) = (sealed(1), sealed(2));
    // The header up to the nonce is the same: magic, version, backend, key id, length.
    let header = 6 + 16 + 2;
    assert_eq!(one[..header], two[..header]);
    assert_ne!(one[header..header + 12], two[header..header + 12]);
    assert_ne!(one[header + 12..], two[header + 12..]);
}

#[test]
fn literal_file_under_another_id_does_not_open() {
    let infisical = FakeInfisical::with(&json!({}));
    let instance = instance_with(&infisical);
    let psid = instance.start();
    instance.driver(&["store"]).id(id(1)).stdin("mine").ok();
    psid.terminate();
    let secrets = instance.state().join("secrets");
    fs::copy(secrets.join(id(1)), secrets.join(id(2))).unwrap();
    let psid = instance.start();
    let line = instance.driver(&["lookup"]).id(id(2)).fails(65);
    assert!(line.contains("damaged or tampered with"), "{line}");
    assert!(psid.degraded().contains(&format!("secret {} is not usable", id(2))));
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "mine");
}

#[test]
fn missing_key_refuses_literals_with_the_remedy_and_accepts_references() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"DB_HOST": "db.example"}}));
    let instance = instance_with(&infisical);
    instance.configure(&Config::of(&infisical).without_backend());
    let _psid = instance.start();
    let line = instance.driver(&["store"]).id(id(1)).stdin("hunter2").fails(65);
    assert!(line.contains("there is no key backend to seal a literal with"), "{line}");
    assert!(line.contains("`psictl cache init`"), "{line}");
    assert_eq!(directory_holds(instance.directory(), b"hunter2"), None);
    instance.driver(&["store"]).id(id(2)).stdin(reference("/myapp", "DB_HOST")).ok();
    assert_eq!(instance.driver(&["lookup"]).id(id(2)).text(), "db.example");
    assert_eq!(instance.driver(&["list"]).text(), format!("{}\n", id(2)));
}
