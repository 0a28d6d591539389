//! Authorization by the peer's credentials from the kernel, and by nothing that the peer sends.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use psi_harness::{Config, FakeInfisical, Instance, Psid, copy_program, id, reference};

/// A uid and gid without any right.
const UNPRIVILEGED: u32 = 12_345;
const FRIEND: u32 = 23_456;

fn allowing(lines: &str) -> (FakeInfisical, Instance, Psid) {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).access(lines));
    let psid = instance.start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    (infisical, instance, psid)
}

fn socket_mode(instance: &Instance) -> u32 {
    fs::metadata(instance.socket()).unwrap().permissions().mode() & 0o777
}

#[test]
fn only_an_allowed_uid_may_call() {
    let (_infisical, instance, psid) = allowing(&format!("allow_uids = [0, {FRIEND}]"));
    assert_eq!(socket_mode(&instance), 0o666, "every user can connect, and psid authorizes");
    let lookup = || instance.driver(&["lookup"]).id(id(1));
    assert_eq!(lookup().user(&instance, FRIEND, 1).text(), "1");
    assert_eq!(lookup().text(), "1");
    let line = lookup().user(&instance, UNPRIVILEGED, 54_321).fails(77);
    assert_eq!(
        line,
        format!(
            "psi-driver: lookup {}: uid {UNPRIVILEGED} (gid 54321) may not use this psid; add it to \
             allow_uids or allow_gids in [access]",
            id(1)
        )
    );
    psid.await_log(&format!("uid={UNPRIVILEGED} "));
}

#[test]
fn allowed_gid_may_call() {
    let (_infisical, instance, _psid) = allowing("allow_uids = []\nallow_gids = [4321]");
    assert_eq!(
        instance.driver(&["lookup"]).id(id(1)).user(&instance, UNPRIVILEGED, 4321).text(),
        "1"
    );
    instance.driver(&["lookup"]).id(id(1)).user(&instance, UNPRIVILEGED, 4322).fails(77);
}

#[test]
fn every_call_is_authorized() {
    let (_infisical, instance, _psid) = allowing(&format!("allow_uids = [0, {FRIEND}]"));
    let reference = reference("/myapp", "A");
    let import = [
        "import",
        "env-file",
        "-",
        "--project",
        "myproject",
        "--path",
        "/myapp",
        "--conflict=skip",
    ];
    let request = format!("{{\"SecretName\":{reference:?}}}");
    let calls: [&[&str]; 13] = [
        &["lookup"],
        &["store"],
        &["delete"],
        &["list"],
        &["restore"],
        &["get", &reference],
        &["health"],
        &["cache", "status"],
        &["cache", "refresh"],
        &["cache", "invalidate", &reference],
        &["exec", "--", "true"],
        &["gc", "--dry-run"],
        &import,
    ];
    for args in calls {
        let stdin = if args[0] == "import" { "B=2\n" } else { &request };
        let call = instance.driver(args).id(id(1)).stdin(stdin).user(
            &instance,
            UNPRIVILEGED,
            UNPRIVILEGED,
        );
        let line = call.fails(77);
        assert!(line.contains(&format!("uid {UNPRIVILEGED} ")), "{line}");
    }
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1", "nothing was changed");
}

/// A user who may use secrets may neither manage keys nor start a drill.
#[test]
fn admin_calls_require_root_or_psids_user() {
    let (_infisical, instance, psid) = allowing(&format!("allow_uids = [0, {FRIEND}]"));
    let calls: [&[&str]; 5] = [
        &["cache", "rekey"],
        &["cache", "recover"],
        &["cache", "recovery-key"],
        &["cache", "refresh", "--accept-removals"],
        &["drill", "--for", "1h"],
    ];
    for args in calls {
        let typed = "cbdefghi-".repeat(8);
        let call = instance.driver(args).stdin(typed.trim_end_matches('-'));
        let line = call.user(&instance, FRIEND, FRIEND).fails(77);
        assert!(line.contains("only root and psid's own user may do this"), "{line}");
    }
    instance.driver(&["cache", "refresh"]).user(&instance, FRIEND, FRIEND).ok();
    assert_eq!(psid.status()["has_recovery_key"], false);
}

/// GHSA-6gp8-pp9v-gx45, of another daemon: it accepted the identity that its caller claimed.
#[test]
fn environment_does_not_change_the_callers_identity() {
    let (_infisical, instance, _psid) = allowing(&format!("allow_uids = [0, {FRIEND}]"));
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
    instance.configure(&Config::of(&infisical).access("allow_uids = []"));
    let psid = instance.start();
    assert_eq!(instance.driver(&["get", &reference("/myapp", "A")]).text(), "1");
    psid.terminate();
    // A psid of another user refuses root unless it is allowed.
    let copy = instance.run().join("psid");
    copy_program("psid", &copy);
    give(instance.directory(), FRIEND);
    let user = FRIEND.to_string();
    let as_friend = ["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"];
    let psid = instance.psid().with_program(&copy).through(&as_friend);
    let _psid = psid.start();
    assert_eq!(socket_mode(&instance), 0o600);
    let get = || instance.driver(&["get", &reference("/myapp", "A")]);
    assert_eq!(get().user(&instance, FRIEND, FRIEND).text(), "1");
    assert!(get().fails(77).contains("uid 0 (gid 0) may not use this psid"));
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
fn reload_revokes_access() {
    let (infisical, instance, mut psid) = allowing(&format!("allow_uids = [0, {FRIEND}]"));
    let lookup = || instance.driver(&["lookup"]).id(id(1)).user(&instance, FRIEND, FRIEND);
    assert_eq!(lookup().text(), "1");
    instance.configure(&Config::of(&infisical).access("allow_uids = [0]"));
    psid.reload();
    lookup().fails(77);
}

#[test]
fn reload_grants_access() {
    let (infisical, instance, mut psid) = allowing("allow_uids = [0]");
    let lookup = || instance.driver(&["lookup"]).id(id(1)).user(&instance, FRIEND, FRIEND);
    lookup().fails(77);
    instance.configure(&Config::of(&infisical).access(&format!("allow_uids = [0, {FRIEND}]")));
    psid.reload();
    assert_eq!(lookup().text(), "1");
}
