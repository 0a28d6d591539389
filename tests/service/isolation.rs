//! Ways in which a user could reach another's secrets, or learn of them, that no single rule names.

use serde_json::{Value, json};

use psi_harness::{
    Config, Driver, FakeInfisical, Instance, Psid, eventually, fault, id, reference,
};

/// The user of the workload `web`.
const WEB: u32 = 12_345;
/// The user of the workload `db`.
const DB: u32 = 23_456;

struct Fixture {
    infisical: FakeInfisical,
    instance: Instance,
    _psid: Psid,
}

impl Fixture {
    /// `web` reads `/web`, `db` reads `/db` and root's `admin` reads `/admin`.
    fn new() -> Self {
        Self::with(|config| config.workload_of(WEB, "web", "/web"))
    }

    fn with(web: impl Fn(Config) -> Config) -> Self {
        let infisical = FakeInfisical::with(&json!({
            "/web": {"A": "1", "B": "2"},
            "/web/below": {"A": "below"},
            "/webadmin": {"A": "not for web"},
            "/db": {"A": "not for web"},
            "/admin": {"A": "not for web", "admin--A": "not for web"},
            "/shared": {"S": "shared"},
        }));
        let instance = Instance::of(&infisical);
        let config = web(Config::of(&infisical));
        let config = config.workload_of(DB, "db", "/db").workload("web--admin", "/admin", false);
        let config = Config {
            rest: config.rest
                + "[providers.infisical.projects.other]\nid = \"6f2d1b0e-0000-4000-8000-0000000000ff\"\n\
                   environment = \"prod\"\n",
            ..config
        };
        instance.configure(&config);
        let _psid = instance.psid().with_users_socket(&instance).start();
        Self { infisical, instance, _psid }
    }

    fn web(&self, args: &[&str]) -> Driver {
        self.instance.driver(args).user(&self.instance, WEB, WEB)
    }

    fn db(&self, args: &[&str]) -> Driver {
        self.instance.driver(args).user(&self.instance, DB, DB)
    }

    fn root(&self, args: &[&str]) -> Driver {
        self.instance.driver(args)
    }

    /// Asserts that the user `web` neither reads nor registers what this names, before any look.
    #[track_caller]
    fn assert_out_of_reach(&self, name: &str) {
        let before = self.infisical.reads();
        let got = self.web(&["get", name]).run();
        assert!(matches!(got.code, 65 | 77), "get {name}: {} {}", got.code, got.stderr);
        let stored = self.web(&["store"]).id(id(99)).stdin(name).run();
        if stored.code == 0 {
            // It is no reference, but a literal.
            assert_eq!(self.web(&["lookup"]).id(id(99)).text(), name);
            self.web(&["delete"]).id(id(99)).ok();
        }
        assert!(matches!(stored.code, 0 | 65 | 77), "store {name}: {}", stored.stderr);
        assert_eq!(self.infisical.reads(), before, "{name}");
        for output in [got, stored] {
            let all = format!("{}{}", output.stdout_text(), output.stderr);
            assert!(!all.contains("not for web"), "{name}: {all}");
        }
    }
}

#[test]
fn paths_beside_a_source_are_out_of_reach() {
    let fixture = Fixture::new();
    for path in [
        "/webadmin",
        "/web/below",
        "/web/../db",
        "/web/./../db",
        "web/../db",
        "/web/..",
        "/",
        "",
        "//db",
        "/db/",
        "/DB",
        "/WEB",
        "/web/%2e%2e/db",
        "/web\u{0}",
        "/web\n/db",
        "/web ",
        "/wеb",
        "/db/../web",
        "/web//../db",
    ] {
        fixture.assert_out_of_reach(&reference(path, "A"));
    }
    for key in ["../db/A", "A/../../db/A", "A?secretPath=/db", "A&secretPath=%2Fdb", "A#", ""] {
        let got = fixture.web(&["get", &reference("/web", key)]).run();
        assert!(matches!(got.code, 65 | 66 | 77), "{key}: {} {}", got.code, got.stderr);
        assert!(got.stdout.is_empty(), "{key}");
    }
    // A path that means the same is the same.
    for path in ["/web", "/web/", "web"] {
        let got = fixture.web(&["get", &reference(path, "A")]).run();
        assert!(
            got.code == 0 && got.stdout == b"1" || matches!(got.code, 65 | 77),
            "{path}: {got:?}"
        );
    }
}

#[test]
fn references_with_other_members_are_out_of_reach() {
    let fixture = Fixture::new();
    let with = |change: Value| {
        let mut members: Value = serde_json::from_str(&reference("/web", "A")).unwrap();
        members.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        members.to_string()
    };
    for change in [
        json!({"project": "other"}),
        json!({"project": "myproject/../other"}),
        json!({"project": "6f2d1b0e-0000-4000-8000-00000000000a"}),
        json!({"environment": "dev"}),
        json!({"environment": "prod"}),
        json!({"secretPath": "/db"}),
        json!({"provider": "pkcs11"}),
        json!({"provider": "INFISICAL"}),
        json!({"provider": ["infisical"]}),
        json!({"path": ["/web", "/db"]}),
        json!({"key": null}),
        json!({"owner": "0"}),
    ] {
        fixture.assert_out_of_reach(&with(change));
    }
    // Of two members of one name, psid uses the one that it checks.
    let twice = reference("/web", "A").replace("\"path\":", "\"path\":\"/db\",\"path\":");
    let got = fixture.web(&["get", &twice]).run();
    assert!(!got.stdout_text().contains("not for web"), "{got:?}");
    let twice = reference("/db", "A").replace("\"path\":", "\"path\":\"/web\",\"path\":");
    fixture.assert_out_of_reach(&twice);
}

#[test]
fn names_of_other_workloads_are_out_of_reach() {
    let fixture = Fixture::new();
    for name in [
        "db--A",
        "db@--A",
        " db--A",
        "db--A--A",
        "infisical key=A path=/db project=myproject",
        " {\"provider\":\"infisical\",\"project\":\"myproject\",\"path\":\"/db\",\"key\":\"A\"}",
        "\u{feff}{\"provider\":\"infisical\",\"project\":\"myproject\",\"path\":\"/db\",\"key\":\"A\"}",
    ] {
        fixture.assert_out_of_reach(name);
    }
    // Root's workload `web--admin` begins as the user's `web` does: to the user, it is the key `admin--A` of `web`.
    fixture.web(&["get", "web--admin--A"]).fails(66);
    assert_eq!(fixture.root(&["get", "web--admin--A"]).text(), "not for web");
}

#[test]
fn recursive_source_covers_its_own_directories_only() {
    let fixture = Fixture::with(|config| {
        let config = config.workload_of(WEB, "web", "/web");
        let rest = config.rest.replace("path = \"/web\"", "path = \"/web\", recursive = true");
        Config { rest, ..config }
    });
    assert_eq!(fixture.web(&["get", &reference("/web/below", "A")]).text(), "below");
    for path in ["/webadmin", "/web/../db", "/web/below/../../db", "/"] {
        fixture.assert_out_of_reach(&reference(path, "A"));
    }
}

/// Infisical shows an imported folder's secrets in the importing one: that is the source's, its own path is not.
#[test]
fn imported_folder_is_reached_through_the_source_alone() {
    let fixture = Fixture::new();
    fixture.infisical.import("/web", "/shared");
    assert_eq!(fixture.web(&["get", &reference("/web", "S")]).text(), "shared");
    fixture.assert_out_of_reach(&reference("/shared", "S"));
}

#[test]
fn secret_that_moves_in_infisical_does_not_take_the_user_along() {
    let fixture = Fixture::new();
    fixture.web(&["store"]).id(id(1)).stdin(reference("/web", "A")).ok();
    assert_eq!(fixture.web(&["lookup"]).id(id(1)).text(), "1");
    fixture.infisical.remove("/web", "A");
    fixture.infisical.put("/db", "A", "moved");
    fixture.root(&["cache", "refresh", "--accept-removals"]).run();
    let got = fixture.web(&["lookup"]).id(id(1)).run();
    assert!(!got.stdout_text().contains("moved"), "{got:?}");
    fixture.web(&["get", &reference("/db", "A")]).fails(77);
}

#[test]
fn users_of_one_source_have_registrations_of_their_own() {
    let mut fixture = Fixture::with(|config| {
        config.workload_of(WEB, "web", "/web").workload_of(DB, "other", "/web")
    });
    fixture.web(&["store"]).id(id(1)).stdin(reference("/web", "A")).ok();
    fixture.db(&["store"]).id(id(2)).stdin(reference("/web", "A")).ok();
    assert_eq!(fixture.db(&["lookup"]).id(id(2)).text(), "1");
    fixture.db(&["lookup"]).id(id(1)).fails(66);
    // One user's delete takes nothing from the other.
    fixture.web(&["delete"]).id(id(1)).ok();
    fixture.infisical.kill();
    assert_eq!(fixture.db(&["lookup"]).id(id(2)).text(), "1");
}

#[test]
fn deleted_secrets_of_others_are_unknown_and_their_ids_stay_taken() {
    let fixture = Fixture::new();
    fixture.root(&["store"]).id(id(1)).stdin("root's").ok();
    fixture.db(&["store"]).id(id(2)).stdin(reference("/db", "A")).ok();
    fixture.root(&["delete"]).id(id(1)).ok();
    fixture.db(&["delete"]).id(id(2)).ok();
    assert_eq!(fixture.web(&["restore"]).text(), "");
    let all = fixture.web(&["restore", "--all"]).text();
    assert_eq!(all, "nothing was deleted within the last ten minutes\n");
    for foreign in [1, 2] {
        let [foreign, unknown] = [foreign, 9].map(|number| {
            let line = fixture.web(&["restore", &id(number)]).fails(66);
            let looked_up = fixture.web(&["lookup"]).id(id(number)).fails(66);
            [line, looked_up].map(|line| line.replace(&id(number), "ID"))
        });
        assert_eq!(foreign, unknown);
    }
    // Podman's ids are random: whoever stores under a deleted one would otherwise keep its owner from restoring it.
    for foreign in [1, 2] {
        fixture.web(&["store"]).id(id(foreign)).stdin("mine").fails(77);
    }
    fixture.db(&["restore", &id(2)]).report();
    assert_eq!(fixture.db(&["lookup"]).id(id(2)).text(), "not for web");
    // Root's delete leaves it to its owner to restore.
    fixture.root(&["delete"]).id(id(2)).ok();
    fixture.db(&["restore", &id(2)]).report();
    fixture.web(&["lookup"]).id(id(2)).fails(66);
}

#[test]
fn literal_that_looks_like_a_reference_is_a_literal() {
    let fixture = Fixture::new();
    let text = reference("/db", "A");
    fixture.web(&["store", "--literal"]).id(id(1)).stdin(&text).ok();
    assert_eq!(fixture.web(&["lookup"]).id(id(1)).text(), text);
    // The file of a reference, with another user as its owner.
    let file = format!("psi-reference 2 {} 0 {}\n{text}", id(2), "0".repeat(64));
    fixture.web(&["store"]).id(id(2)).stdin(&file).fails(65);
}

/// What must not reach the user `web`.
#[track_caller]
fn assert_silent(shown: &str) {
    for other in ["/db", "/admin", "web--admin", &id(1), &id(2), "root's", "cache.enc", "6f2d1b0e"]
    {
        assert!(!shown.contains(other), "{other}: {shown}");
    }
}

#[test]
fn commands_of_a_user_are_silent_about_others() {
    let fixture = Fixture::new();
    fixture
        .infisical
        .fault_directory("/admin", &fault::refusal(403, "Forbidden", "You are not allowed"));
    fixture.root(&["store"]).id(id(1)).stdin("root's").ok();
    fixture.db(&["store"]).id(id(2)).stdin(reference("/db", "A")).ok();
    fixture.web(&["store"]).id(id(3)).stdin(reference("/web", "A")).ok();
    fixture.root(&["cache", "refresh"]).run();
    for args in [
        &["status", "--json"][..],
        &["status"],
        &["cache", "refresh"],
        &["cache", "refresh", "--json"],
        &["secrets"],
        &["secrets", "--json"],
        &["restore"],
        &["list"],
        &["health"],
    ] {
        let outcome = fixture.web(args).run();
        assert!(matches!(outcome.code, 0 | 1), "{args:?}: {outcome:?}");
        assert_silent(&format!("{}{}", outcome.stdout_text(), outcome.stderr));
    }
    let secrets = fixture.web(&["secrets", "--json"]).json();
    assert_eq!(secrets["secrets"].as_array().unwrap_or(secrets.as_array().unwrap()).len(), 1);
    // A workload of others is one that does not exist.
    let [foreign, unknown] = ["db", "none"].map(|name| {
        let line = fixture.web(&["exec", "--workload", name, "--", "true"]).fails(65);
        line.replace(name, "NAME")
    });
    assert_eq!(foreign, unknown);
    for args in [
        &["drill"][..],
        &["cache", "invalidate", "web--A"],
        &["cache", "refresh", "--accept-removals"],
        &["cache", "refresh", "--retry"],
        &["login"],
    ] {
        let line = fixture.web(args).fails(77);
        assert!(
            line.contains("only root and psid's own user may do this; run it as root"),
            "{line}"
        );
    }
}

#[test]
fn refresh_that_joins_roots_shows_the_users_sources_alone() {
    let fixture = Fixture::new();
    fixture.infisical.fault_directory("/db", &fault::slow(2_000));
    std::thread::scope(|scope| {
        let roots = scope.spawn(|| fixture.root(&["cache", "refresh"]).run());
        eventually("root's refresh", || (fixture.infisical.reads() > 0).then_some(()));
        let users = fixture.web(&["cache", "refresh"]).run();
        assert_silent(&format!("{}{}", users.stdout_text(), users.stderr));
        assert!(users.stdout_text().contains("/web"), "{users:?}");
        assert!(roots.join().unwrap().stdout_text().contains("/db"));
    });
}
