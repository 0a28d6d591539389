//! Containers get their secrets, byte for byte, with and without Infisical, before and after a
//! reboot.

use std::collections::BTreeMap;
use std::net::TcpStream;

use serde_json::{Map, Value, json};

use psi_harness::Podman;
use psi_harness::{FakeInfisical, Instance, Tpm, directory_holds, reference};

type Values = BTreeMap<String, Vec<u8>>;

/// Infisical's values: any text, which must not change on its way.
fn texts() -> BTreeMap<&'static str, String> {
    let big: String = (0..100_000_u32).map(|number| format!("{number:05}\n")).collect();
    BTreeMap::from([
        ("plain", "db.example".into()),
        ("binary", "\u{1}\u{7f}\u{80}\u{9f}\u{feff}\u{fffd}\\x00%00".into()),
        ("lines", "-----BEGIN\nabc\r\n\tdef\n-----END".into()),
        ("newline", "ends in one\n".into()),
        ("newlines", "ends in three\n\n\n".into()),
        ("only_newline", "\n".into()),
        ("unicode", "pässwörd 秘密 🔑 e\u{301} \u{202e}".into()),
        ("blank", "  \t ".into()),
        ("shell", "'\"$HOME`id`\\n$(id);&|*".into()),
        ("big", big[..500_000].into()),
    ])
}

/// psi's literals: any bytes, up to podman's limit.
fn literals() -> Values {
    let mut random = vec![0; 511_999];
    getrandom::fill(&mut random).unwrap();
    BTreeMap::from([("all_bytes".into(), (0..=255).collect()), ("random".into(), random)])
}

/// A new container gets each of them as a file, and as a variable where possible: a variable ends
/// at a NUL, has a limit in the kernel, and podman makes it UTF-8.
#[track_caller]
fn a_new_container_gets(podman: &Podman, values: &Values) {
    let mut options = Vec::new();
    let mut script = "cp /run/secrets/* /out/\n".to_owned();
    let mut expected = values.clone();
    for (name, value) in values {
        options.push(format!("--secret={name}"));
        if !value.contains(&0) && value.len() < 128 << 10 {
            options.push(format!("--secret={name},type=env,target=V_{name}"));
            script += &format!("printf %s \"$V_{name}\" >/out/env_{name}\n");
            expected.insert(format!("env_{name}"), value.clone());
        }
    }
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let found = podman.container(&options, &script);
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, value) in &expected {
        // Not assert_eq, which would print half a megabyte.
        assert!(found[name] == *value, "{name} has {} bytes of {}", found[name].len(), value.len());
    }
}

#[track_caller]
fn assert_unreachable(infisical: &FakeInfisical) {
    let address = infisical.url().split_once("://").unwrap().1;
    assert!(TcpStream::connect(address).is_err(), "the infisical is still there");
}

#[test]
fn containers_start_with_infisical_and_after_a_reboot_without_it() {
    let texts = texts();
    let directory: Map<String, Value> =
        texts.iter().map(|(name, text)| ((*name).into(), json!(text))).collect();
    let mut tpm = Tpm::start();
    let mut infisical = FakeInfisical::with(&json!({"/myapp": directory}));
    let instance = Instance::of(&infisical);
    instance.take_key();
    let init = instance.driver(&["cache", "init", "--backend", "tpm"]);
    let path = std::env::var_os("PATH").unwrap();
    init.env("SYSTEMD_TPM2_DEVICE", tpm.device()).env("PATH", path).ok();
    tpm.flush();
    let psid = instance.psid().env("SYSTEMD_TPM2_DEVICE", tpm.device()).start();
    assert_eq!(psid.degraded(), "");

    let podman = Podman::of(&instance);
    let mut values: Values = literals();
    let mut ids: Vec<String> =
        values.iter().map(|(name, value)| podman.create(name, value)).collect();
    for (name, text) in texts {
        ids.push(podman.create(name, reference("/myapp", name)));
        values.insert(name.to_owned(), text.into_bytes());
    }
    ids.sort();
    assert_eq!(instance.driver(&["list"]).text(), ids.join("\n") + "\n");
    a_new_container_gets(&podman, &values);
    assert_eq!(psid.status()["survives_outage"], true);

    psid.terminate();
    infisical.kill();
    assert_unreachable(&infisical);
    tpm.power_cycle();
    let psid = instance.psid().env("SYSTEMD_TPM2_DEVICE", tpm.device()).start();
    assert_eq!(psid.degraded(), "");
    a_new_container_gets(&podman, &values);
    assert_unreachable(&infisical);

    // When Infisical is back, cached values cause no request.
    infisical.restart();
    a_new_container_gets(&podman, &values);
    assert_eq!(infisical.log().len(), 0);
}

#[test]
fn literal_is_encrypted_and_survives_a_restart() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"DB_HOST": "db.example"}}));
    let instance = Instance::of(&infisical);
    let psid = instance.start();
    let podman = Podman::of(&instance);
    let literal = b"correct horse battery staple";
    podman.create("db_pw", literal);
    podman.create("db_host", reference("/myapp", "DB_HOST"));
    let values: Values = BTreeMap::from([
        ("db_pw".into(), literal.to_vec()),
        ("db_host".into(), b"db.example".to_vec()),
    ]);
    a_new_container_gets(&podman, &values);
    let nowhere = |needle: &[u8]| {
        assert_eq!(directory_holds(&instance.state(), needle), None);
        assert_eq!(directory_holds(&podman.secrets_directory(), needle), None);
    };
    let sealed = || {
        nowhere(literal);
        nowhere(b"db.example");
        // The same search finds what is no secret: references and names are kept as they are.
        assert!(directory_holds(&instance.state(), b"DB_HOST").is_some());
        assert!(directory_holds(&podman.secrets_directory(), b"db_pw").is_some());
    };
    psid.await_generation_after(0);
    sealed();
    psid.terminate();
    sealed();
    let _psid = instance.start();
    a_new_container_gets(&podman, &values);
    sealed();
}
