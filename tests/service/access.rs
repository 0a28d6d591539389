//! Authorization by the peer's credentials from the kernel and the workloads of the config, and by nothing that the peer
//! sends.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use psi_harness::{Config, FakeInfisical, Instance, Psid, copy_program, id, reference};

/// A uid and gid without any right.
const UNPRIVILEGED: u32 = 12_345;
const FRIEND: u32 = 23_456;

/// psid with a workload `web` of this user, which reads `/web`.
fn serving(user: &str) -> (FakeInfisical, Instance, Psid) {
    let infisical = FakeInfisical::with(&json!({"/web": {"A": "1"}, "/myapp": {"A": "2"}}));
    let instance = Instance::of(&infisical);
    instance.configure(&with_user(&infisical, user));
    let psid = instance.psid().with_users_socket(&instance).start();
    (infisical, instance, psid)
}

fn with_user(infisical: &FakeInfisical, user: &str) -> Config {
    Config::of(infisical).workload_of(user, "web", "/web").workload("myapp", "/myapp", false)
}

fn friend(instance: &Instance, args: &[&str]) -> psi_harness::Driver {
    instance.driver(args).user(instance, FRIEND, FRIEND)
}

#[test]
fn user_of_a_workload_uses_its_own_secrets_only() {
    let (_infisical, instance, _psid) = serving(&FRIEND.to_string());
    let friend = |args: &[&str]| friend(&instance, args);
    friend(&["store"]).id(id(1)).stdin(reference("/web", "A")).ok();
    friend(&["store"]).id(id(2)).stdin("a literal").ok();
    assert_eq!(friend(&["lookup"]).id(id(1)).text(), "1");
    assert_eq!(friend(&["lookup"]).id(id(2)).text(), "a literal");
    assert_eq!(friend(&["get", "web--A"]).text(), "1");
    assert_eq!(friend(&["get", &reference("/web", "A")]).text(), "1");
    // What root has does not exist for the user.
    instance.driver(&["store"]).id(id(3)).stdin("root's").ok();
    let foreign = friend(&["lookup"]).id(id(3)).fails(66).replace(&id(3), "ID");
    let unknown = friend(&["lookup"]).id(id(4)).fails(66).replace(&id(4), "ID");
    assert_eq!(foreign, unknown);
    assert_eq!(friend(&["delete"]).id(id(3)).text(), "");
    assert_eq!(friend(&["list"]).text(), format!("{}\n{}\n", id(1), id(2)));
    let line = friend(&["store"]).id(id(3)).stdin("root's").fails(77);
    assert!(line.contains("the id is another user's"), "{line}");
    assert_eq!(instance.driver(&["lookup"]).id(id(3)).text(), "root's");
    // Root may use all of it.
    assert_eq!(instance.driver(&["lookup"]).id(id(2)).text(), "a literal");
    assert_eq!(instance.driver(&["list"]).text().lines().count(), 3);
}

#[test]
fn names_and_references_outside_the_users_workloads_are_refused_alike() {
    let (infisical, instance, _psid) = serving(&FRIEND.to_string());
    let friend = |args: &[&str]| friend(&instance, args);
    for (foreign, unknown) in [
        ("myapp--A".to_owned(), "nothing--A".to_owned()),
        (reference("/myapp", "A"), reference("/none", "A")),
    ] {
        let [foreign_line, unknown_line] =
            [&foreign, &unknown].map(|name| friend(&["get", name]).fails(77));
        let alike = unknown_line.replace("nothing", "myapp").replace("/none", "/myapp");
        assert_eq!(foreign_line, alike);
        friend(&["store"]).id(id(1)).stdin(&foreign).run();
    }
    let line = friend(&["get", "myapp--A"]).fails(77);
    let remedy = format!("user = {FRIEND} in [workloads.\"myapp\"] of psid's config allows it");
    assert!(line.contains(&remedy), "{line}");
    let line = friend(&["store"]).id(id(2)).stdin(reference("/myapp", "A")).fails(77);
    assert!(line.contains("path = \"/myapp\""), "{line}");
    friend(&["store"]).id(id(2)).stdin(reference("/web/below", "A")).fails(77);
    friend(&["store"]).id(id(2)).stdin(r#"{"provider":"pkcs11","data":"x"}"#).fails(65);
    assert_eq!(infisical.reads(), 0, "the config alone decides");
}

#[test]
fn stranger_is_refused_and_logged() {
    let (_infisical, instance, psid) = serving(&FRIEND.to_string());
    for args in [&["lookup"][..], &["list"], &["health"], &["get", "web--A"], &["cache", "status"]]
    {
        let call = instance.driver(args).id(id(1)).user(&instance, UNPRIVILEGED, 54_321);
        let line = call.fails(77);
        assert!(
            line.contains(&format!("uid {UNPRIVILEGED} is not the user of a workload")),
            "{line}"
        );
    }
    psid.await_log(&format!("refusal of any call by uid {UNPRIVILEGED}"));
    // The admin's socket serves no user, whatever its mode.
    let line = friend(&instance, &["list"]).env("PSI_SOCKET", instance.socket()).fails(77);
    assert!(line.contains("/run/psi/users.sock"), "{line}");
}

/// GHSA-6gp8-pp9v-gx45, of another daemon: it accepted the identity that its caller claimed.
#[test]
fn environment_does_not_change_the_callers_identity() {
    let (_infisical, instance, _psid) = serving(&FRIEND.to_string());
    let mut call =
        instance.driver(&["lookup"]).id(id(1)).user(&instance, UNPRIVILEGED, UNPRIVILEGED);
    for name in ["UID", "SUDO_UID", "_CONTAINERS_ROOTLESS_UID", "PKEXEC_UID"] {
        call = call.env(name, "0");
    }
    call.env("USER", "root").env("LOGNAME", "root").fails(77);
}

#[test]
fn psids_own_user_is_always_allowed() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    let copy = instance.run().join("psid");
    copy_program("psid", &copy);
    give(instance.directory(), FRIEND);
    let user = FRIEND.to_string();
    let as_friend = ["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"];
    let psid = instance.psid().with_program(&copy).through(&as_friend);
    let _psid = psid.start();
    let mode = fs::metadata(instance.socket()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let get = || instance.driver(&["get", &reference("/myapp", "A")]);
    assert_eq!(get().user(&instance, FRIEND, FRIEND).text(), "1");
    assert_eq!(get().text(), "1", "root too");
}

fn give(path: &std::path::Path, uid: u32) {
    std::os::unix::fs::chown(path, Some(uid), Some(uid)).unwrap();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path(), uid);
        }
    }
}

#[test]
fn reload_grants_and_revokes_access() {
    let (infisical, instance, mut psid) = serving(&UNPRIVILEGED.to_string());
    let lookup = || friend(&instance, &["get", "web--A"]);
    lookup().fails(77);
    instance.configure(&with_user(&infisical, &FRIEND.to_string()));
    psid.reload();
    assert_eq!(lookup().text(), "1");
    friend(&instance, &["store"]).id(id(1)).stdin(reference("/web", "A")).ok();
    // The workload moves: what the user registered is outside of it.
    let elsewhere = Config::of(&infisical).workload_of(FRIEND, "web", "/myapp");
    instance.configure(&elsewhere);
    psid.reload();
    friend(&instance, &["lookup"]).id(id(1)).fails(77);
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1", "root's right stays");
    instance.configure(&Config::of(&infisical));
    psid.reload();
    friend(&instance, &["list"]).fails(77);
}

#[test]
fn unknown_user_degrades_its_workload_only() {
    let (_infisical, instance, psid) = serving("nobody-of-this-name");
    assert_eq!(instance.driver(&["get", "web--A"]).text(), "1");
    let degraded = psid.degraded();
    assert!(
        degraded.contains(
            "user = \"nobody-of-this-name\" of workload web is unknown: there is no such user"
        ),
        "{degraded}"
    );
    let report = instance.psid().args(&["check"]).run();
    assert_eq!(report.code, 0, "{}", report.stderr);
    let text = report.stdout_text();
    assert!(text.contains("warning: user = \"nobody-of-this-name\" of workload web"), "{text}");
}

/// The owner is kept with the registration.
#[test]
fn restart_changes_no_owner() {
    let (_infisical, instance, psid) = serving(&FRIEND.to_string());
    friend(&instance, &["store"]).id(id(1)).stdin("a literal").ok();
    friend(&instance, &["store"]).id(id(2)).stdin(reference("/web", "A")).ok();
    instance.driver(&["store"]).id(id(3)).stdin("root's").ok();
    psid.terminate();
    let _psid = instance.psid().with_users_socket(&instance).start();
    assert_eq!(friend(&instance, &["list"]).text(), format!("{}\n{}\n", id(1), id(2)));
    assert_eq!(friend(&instance, &["lookup"]).id(id(1)).text(), "a literal");
    assert_eq!(friend(&instance, &["lookup"]).id(id(2)).text(), "1");
    friend(&instance, &["lookup"]).id(id(3)).fails(66);
}
