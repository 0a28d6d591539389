//! The keys that a workload takes of its sources.

use super::*;
use crate::provider::upstream::{Mount, Workload};

/// `[workloads.app]` with these sources and other lines.
fn workload(sources: &str, more: &str) -> Result<Workload, String> {
    let text = format!(
        "{FULL}\n[workloads.app]\nprovider = \"infisical\"\nsecrets = [{sources}]\n{more}\n"
    );
    parse(&text).map(|mut config| config.workloads.remove("app").unwrap())
}

fn source(more: &str) -> String {
    format!("{{ project = \"myproject\", path = \"/app\"{more} }}")
}

#[test]
fn source_selects_keys_and_variables() {
    let of = |more: &str| {
        let app = workload(&source(more), "").unwrap();
        let selected = app.sources[0].selected.clone()?;
        let pairs = selected.iter().map(|(variable, key)| format!("{variable}={key}"));
        Some(pairs.collect::<Vec<_>>().join(" "))
    };
    assert_eq!(of(""), None);
    assert_eq!(of(", keys = [\"B\", \"a b\"]").unwrap(), "B=B a b=a b");
    let both = of(", keys = [\"URL\"], env = { DATABASE_URL = \"URL\", COPY = \"URL\" }");
    assert_eq!(both.unwrap(), "COPY=URL DATABASE_URL=URL URL=URL");
    assert!(!workload(&source(""), "").unwrap().kube);
    assert!(workload(&source(""), "kube = true").unwrap().kube);
}

#[test]
fn mount_is_a_key_or_a_table() {
    let more = "mount = [\"a.pem\", \"a.pem\", { key = \"b.key\", uid = 999, gid = 0, mode = \"400\", \
                target = \"/etc/b.key\" }]";
    let app = workload(&source(""), more).unwrap();
    let expected = [
        Mount { key: "a.pem".into(), ..Mount::default() },
        Mount {
            key: "b.key".into(),
            uid: Some(999),
            gid: Some(0),
            mode: Some(0o400),
            target: Some("/etc/b.key".into()),
        },
    ];
    assert_eq!(app.mount, expected);
}

/// A file and a variable of one key: it is selected under its own name too.
#[test]
fn key_is_mounted_and_mapped_if_it_is_selected_twice() {
    let mount = "mount = [\"tls.pem\"]";
    let env = ", env = { TLS = \"tls.pem\" }";
    assert!(workload(&source(env), mount).unwrap_err().contains("no source has 'tls.pem'"));
    let both = source(&format!(", keys = [\"tls.pem\"]{env}"));
    assert_eq!(
        workload(&both, mount).unwrap().sources[0].variables_of("tls.pem"),
        ["TLS", "tls.pem"]
    );
    // Another source may have it.
    let sources = format!("{}, {}", source(env), source(""));
    workload(&sources, mount).unwrap();
}

proptest! {
    #[test]
    fn mode_is_octal_digits_of_permissions(text in "[0-9]{0,5}") {
        let app = workload(&source(""), &format!("mount = [{{ key = \"a\", mode = \"{text}\" }}]"));
        let mode = u32::from_str_radix(&text, 8).ok().filter(|mode| *mode <= 0o777);
        prop_assert_eq!(app.ok().map(|app| app.mount[0].mode), mode.map(Some));
    }
}
