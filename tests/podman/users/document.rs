//! The `kube = true` document of a user's workload.

use psi_harness::{DB, UserHost, WEB};
use serde_json::json;

use super::install;

/// A document has all secrets of a workload: it is its user's, and is no different from an unknown one for others.
#[test]
fn document_of_another_user_is_as_unknown() {
    let secrets = json!({"/web": {"A": "1"}, "/db": {"A": "of db"}, "/admin": {"A": "of root"}});
    let host = UserHost::of(&secrets, |mut config| {
        config.rest += "kube = true\n";
        let mut config = config.workload_of(DB.uid, "db", "/db");
        config.rest += "kube = true\n";
        let mut config = config.workload("admin", "/admin", false);
        config.rest += "kube = true\n";
        config
    });
    for user in [WEB, DB] {
        host.admit(user);
        install(&host, user);
        host.ok(user, &["psictl", "setup"], "");
    }
    let own = host.ok(WEB, &["psi-driver", "get", "web"], "");
    assert!(own.contains("kind: Secret") && own.contains("\"A\": \"MQ==\""), "{own}");
    let refused = |name: &str, args: &[&str], stdin: &str| {
        let outcome = host.run(WEB, args, stdin);
        assert!(outcome.code != 0 && outcome.stdout.is_empty(), "{args:?}: {outcome:?}");
        // Without podman's own lines, and the ids.
        let from = outcome.stderr.find("uid 41001").unwrap_or_else(|| panic!("{outcome:?}"));
        let why = outcome.stderr[from..].lines().next().unwrap();
        why.split("; if it was").next().unwrap().replace(name, "NAME")
    };
    let of = |name: &str| {
        let reference = format!(r#"{{"provider":"psi","workload":"{name}"}}"#);
        let create = ["podman", "secret", "create", "mine", "-"];
        [
            refused(name, &["psi-driver", "get", name], ""),
            refused(name, &["psi-driver", "get", &reference], ""),
            refused(name, &create, &reference),
        ]
    };
    let unknown = of("none");
    assert!(unknown[2].contains("uid 41001 may not use the workload NAME"), "{unknown:?}");
    for name in ["db", "admin"] {
        assert_eq!(of(name), unknown, "{name}");
    }
    let ids = host.ok(DB, &["podman", "secret", "ls", "--format", "{{.Name}} {{.ID}}"], "");
    let id = ids.lines().find_map(|line| line.strip_prefix("db ")).unwrap();
    let lookup = |user, id: &str| {
        let outcome =
            host.run(user, &["env", &format!("SECRET_ID={id}"), "psi-driver", "lookup"], "");
        (outcome.code, outcome.stdout_text(), outcome.stderr.replace(id, "ID"))
    };
    assert!(lookup(DB, id).1.contains("kind: Secret"));
    let foreign = lookup(WEB, id);
    assert_eq!(foreign, lookup(WEB, "0123456789abcdef012345678"));
    assert_eq!(foreign.0, 66);
    // The user's own reference, to the workload that is its own.
    let reference = r#"{"provider":"psi","workload":"web"}"#;
    host.ok(WEB, &["podman", "secret", "create", "mine", "-"], reference);
}
