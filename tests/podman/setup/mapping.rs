//! What a workload takes of its sources: selected keys, variables of other names, and files with an owner and a mode.

use serde_json::{Value, json};

use psi_harness::{Host, generate_by_each};

/// `[workloads.myapp]` with these sources.
fn workload(sources: &[(&str, &str)], more: &str) -> String {
    let source = |(path, more): &(&str, &str)| {
        format!("{{ project = \"myproject\", path = \"{path}\"{more} }}")
    };
    let sources: Vec<String> = sources.iter().map(source).collect();
    let sources = sources.join(", ");
    format!("[workloads.myapp]\nprovider = \"infisical\"\nsecrets = [{sources}]\n{more}")
}

fn names(host: &Host) -> Vec<String> {
    host.ids().into_keys().collect()
}

fn drift(host: &Host) -> Vec<(String, String)> {
    let report = host.dry_run(1);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let all = report["drift"].as_array().unwrap().iter();
    all.map(|drift| (text(&drift["at"]), text(&drift["name"]))).collect()
}

const DB: &str = ", env = { DATABASE_URL = \"URL\", COPY = \"URL\", ODD = \"my key\" }";

#[test]
fn selected_keys_are_registered_under_their_variables() {
    let host = Host::of(
        &json!({
            "/shared": {"SENTRY_DSN": "dsn", "OTHER": "unused", "COPY": "shared"},
            "/db": {"URL": "postgres://db", "PW": "unused", "my key": "odd"},
        }),
        &workload(&[("/shared", ", keys = [\"SENTRY_DSN\", \"COPY\"]"), ("/db", DB)], ""),
    );
    let report = host.set_up(&[]);
    let all = ["myapp--COPY", "myapp--DATABASE_URL", "myapp--ODD", "myapp--SENTRY_DSN"];
    assert_eq!(names(&host), all);
    // Of two sources with one variable, the later one wins, and both are named.
    let warning = report["workloads"][0]["warnings"][0].as_str().unwrap();
    assert!(
        warning.contains("myproject:/shared has COPY too, and that of myproject:/db"),
        "{report}"
    );
    for (name, value) in [
        ("myapp--COPY", "postgres://db"),
        ("myapp--DATABASE_URL", "postgres://db"),
        ("myapp--ODD", "odd"),
        ("myapp--SENTRY_DSN", "dsn"),
    ] {
        assert_eq!(host.lookup(name), value);
        assert_eq!(host.driver(&["get", name]).text(), value);
    }
    for name in ["myapp--URL", "myapp--OTHER", "myapp--PW"] {
        host.driver(&["get", name]).fails(66);
    }
    let text = host.drop_in("myapp");
    assert!(text.contains("\nSecret=myapp--ODD,type=env,target=ODD\n"), "{text}");
    let script = "printf %s,%s,%s \"$DATABASE_URL\" \"$SENTRY_DSN\" \"${URL-none}\"";
    let exec = host.driver(&["exec", "--", "/bin/sh", "-c", script]);
    assert_eq!(exec.text(), "postgres://db,dsn,none");
    let again = host.set_up(&[]);
    assert_eq!((&again["podman_writes"], &again["psid_writes"]), (&json!(0), &json!(0)));
    host.dry_run(0);
    let listed: Value = serde_json::from_str(&host.driver(&["secrets", "--json"]).text()).unwrap();
    assert!(listed.to_string().contains("myapp--DATABASE_URL"), "{listed}");
}

/// What no workload takes is neither cached nor looked for.
#[test]
fn keys_beside_the_selected_ones_are_not_cached() {
    let host = Host::of(
        &json!({"/db": {"PW": "1", "OTHER": "2", "MORE": "3"}}),
        &workload(&[("/db", ", keys = [\"PW\"]")], ""),
    );
    host.set_up(&[]);
    let entries = || host.psid.as_ref().unwrap().status()["entries"].clone();
    assert_eq!(entries(), 1);
    // The response to a lookup has the whole directory.
    let reference = psi_harness::reference("/db", "PW");
    host.driver(&["cache", "invalidate", &reference]).ok();
    assert_eq!((host.lookup("myapp--PW"), entries()), ("1".to_owned(), json!(1)));
    // A key that an admin asks for by reference is registered beside them, and refreshed with them.
    host.podman.create("other", psi_harness::reference("/db", "OTHER"));
    host.infisical.put("/db", "OTHER", "changed");
    host.driver(&["cache", "refresh"]).ok();
    assert_eq!((host.lookup("other"), entries()), ("changed".to_owned(), json!(2)));
    host.driver(&["cache", "invalidate", &psi_harness::reference("/db", "MORE")]).run();
    assert_eq!(host.psid.as_ref().unwrap().status()["survives_outage"], true);
    host.dry_run(0);
}

#[test]
fn missing_selected_key_is_an_error_that_names_it() {
    let host = Host::of(
        &json!({"/db": {"URL": "1", "PW": "2", "USER": "3"}}),
        &workload(&[("/db", ", keys = [\"PW\"], env = { DATABASE_URL = \"URL\" }")], ""),
    );
    host.set_up(&[]);
    host.infisical.remove("/db", "URL");
    for args in [&[][..], &["--prune"], &["--dry-run"]] {
        let outcome = host.setup(args).run();
        let output = String::from_utf8(outcome.stdout).unwrap();
        assert_eq!(outcome.code, if args == ["--dry-run"] { 1 } else { 65 }, "{output}");
        let error = "error: myproject:/db has no key 'URL' that psid may read, and keys or env of";
        assert!(output.contains(error), "{output}");
    }
    // The container keeps its line, and its start fails instead of going on without the variable.
    assert_eq!(names(&host), ["myapp--DATABASE_URL", "myapp--PW"]);
    assert!(host.drop_in("myapp").contains("Secret=myapp--DATABASE_URL,type=env"));
    let line = host.driver(&["exec", "--", "/bin/true"]).fails(66);
    assert!(line.contains("has no key 'URL'"), "{line}");
    let login = host.driver(&["login"]).run();
    let output = String::from_utf8(login.stdout).unwrap();
    assert!(login.code != 0 && output.contains("myproject:/db has no key 'URL'"), "{output}");
    host.infisical.put("/db", "URL", "back");
    host.set_up(&[]);
    assert_eq!(host.lookup("myapp--DATABASE_URL"), "back");
}

#[test]
fn file_that_no_source_has_is_an_error() {
    let workload = workload(&[("/myapp", "")], "mount = [\"tls.pm\"]\n");
    let host = Host::of(&json!({"/myapp": {"A": "1"}}), &workload);
    let outcome = host.setup(&[]).run();
    let output = String::from_utf8(outcome.stdout).unwrap();
    assert_eq!(outcome.code, 65, "{output}");
    assert!(output.contains("no source has a key 'tls.pm'"), "{output}");
    assert_eq!(names(&host), ["myapp--A"]);
}

/// A mapping that the config drops is no loss at the provider, which needs a confirmation.
#[test]
fn renamed_mapping_is_drift_and_the_former_one_pruned() {
    let of = |env: &str| workload(&[("/db", &format!(", env = {{ {env} }}"))], "");
    let mut host =
        Host::of(&json!({"/db": {"URL": "1", "PW": "2"}}), &of("DATABASE_URL = \"URL\""));
    host.set_up(&[]);
    let before = host.ids();
    // Another key of the same variable keeps the id.
    host.reconfigure(&of("DATABASE_URL = \"PW\""));
    assert_eq!(drift(&host), [("config".to_owned(), "myapp--DATABASE_URL".to_owned())]);
    let report = host.set_up(&[]);
    assert_eq!(report["workloads"][0]["repointed"], json!(["myapp--DATABASE_URL"]));
    assert_eq!((host.lookup("myapp--DATABASE_URL"), host.ids()), ("2".into(), before));
    host.reconfigure(&of("DB = \"PW\""));
    let at = |at: &str, name: &str| (at.to_owned(), name.to_owned());
    let expected = [
        at("podman", "myapp--DB"),
        at("provider", "myapp--DATABASE_URL"),
        at("drop-in", "myapp--DB"),
    ];
    assert_eq!(drift(&host), expected);
    let report = host.set_up(&["--prune"]);
    assert_eq!(report["removed"], json!(["myapp--DATABASE_URL"]), "{report}");
    assert_eq!(names(&host), ["myapp--DB"]);
    let text = host.drop_in("myapp");
    assert!(!text.contains("DATABASE_URL") && text.contains("Secret=myapp--DB,type=env,target=DB"));
    host.dry_run(0);
}

/// Postgres refuses a key file that others can read; its server runs as uid 999.
#[test]
fn files_have_the_owner_the_mode_and_the_place_of_the_config() {
    let mount = "mount = [\n  \"plain.pem\",\n  \
        { key = \"tls.key\", uid = 999, gid = 998, mode = \"0400\", target = \"server.key\" },\n  \
        { key = \"ca.pem\", mode = \"444\", target = \"/etc/own/ca.pem\" },\n  \
        { key = \"up.pem\", target = \"../up/a=b.pem\" },\n  \
        { key = \".dockerconfigjson\", uid = 4294967294, target = \"sub/c@d+e:f-g_h.json\" },\n]\n";
    let keys = ["plain.pem", "tls.key", "ca.pem", "up.pem", ".dockerconfigjson"];
    let seed: serde_json::Map<String, Value> =
        keys.iter().map(|key| ((*key).to_owned(), json!(format!("of {key}")))).collect();
    let sources = [(
        "/myapp",
        ", keys = [\"plain.pem\", \"tls.key\", \"ca.pem\", \"up.pem\", \".dockerconfigjson\"], env = { CA = \"ca.pem\" }",
    )];
    let host = Host::of(&json!({"/myapp": seed}), &workload(&sources, mount));
    host.write_quadlet("myapp");
    host.set_up(&[]);
    let options = |units: &str| -> Vec<String> {
        let line = units.lines().find(|line| line.starts_with("ExecStart=")).unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let secrets = words.windows(2).filter(|pair| pair[0] == "--secret");
        secrets.map(|pair| format!("--secret={}", pair[1])).collect()
    };
    let each: Vec<Vec<String>> =
        generate_by_each(&host.quadlets()).iter().map(|units| options(units)).collect();
    assert!(each.iter().all(|options| *options == each[0] && options.len() == 6), "{each:#?}");
    let key = "--secret=myapp--tls.key,type=mount,target=server.key,uid=999,gid=998,mode=0400";
    assert!(each[0].iter().any(|option| option == key), "{each:?}");
    // Podman mounts what quadlet hands over.
    let mut options: Vec<&str> = each[0].iter().map(String::as_str).collect();
    let script = "cat /etc/own/ca.pem /run/up/a=b.pem /run/secrets/plain.pem \
                  /run/secrets/sub/c@d+e:f-g_h.json >/out/texts; printf %s \"$CA\" >/out/variable
                  for file in server.key plain.pem sub/c@d+e:f-g_h.json
                  do busybox stat -c '%u %g %a' /run/secrets/$file; done >/out/stat";
    let found = host.podman.container(&options, script);
    let text = |name: &str| String::from_utf8(found[name].clone()).unwrap();
    assert_eq!(text("texts"), "of ca.pemof up.pemof plain.pemof .dockerconfigjson");
    assert_eq!(text("stat"), "999 998 400\n0 0 444\n4294967294 0 444\n");
    assert_eq!(text("variable"), "of ca.pem");
    options.extend(["--user=999:998", "--tmpfs=/tmp"]);
    host.podman.container(&options, "test \"$(cat /run/secrets/server.key)\" = 'of tls.key'");
    options.push("--user=1000:998");
    let args =
        [&["run", "--rm"], &options[..], &["localhost/bb:1", "cat", "/run/secrets/server.key"]];
    let refused = host.podman.fails(&args.concat(), b"");
    assert!(refused.contains("Permission denied"), "{refused}");
}

/// Podman drops the bits that psi refuses, without a word.
#[test]
fn podman_leaves_out_the_bits_of_a_mode_that_psi_refuses() {
    let host = Host::of(&json!({"/myapp": {"A": "1"}}), &workload(&[("/myapp", "")], ""));
    host.set_up(&[]);
    let found = host.podman.container(
        &["--secret=myapp--A,type=mount,target=a,mode=4755"],
        "busybox stat -c %a /run/secrets/a >/out/mode",
    );
    assert_eq!(found["mode"], b"755\n");
}
