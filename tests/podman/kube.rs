//! `kube = true`: the secret that holds all of a workload, as podman's own `kube play` takes it.

use std::path::Path;

use serde_json::{Value, json};

use psi_harness::{Host, IMAGE, Podman, one_line, program, reference, workload};

use crate::containers_conf::{Layout, UnpackedPodman};

/// Podman's own config for a pod without a network, with psi-driver by the path at which the host of an unpacked podman
/// has it.
fn config() -> String {
    let driver = program("psi-driver");
    let command = |verb: &str| format!("{verb} = \"exec /host{} {verb}\"\n", driver.display());
    let commands: String = ["lookup", "store", "delete", "list"].map(command).concat();
    format!(
        "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\nnetns = \"none\"\n\
         log_driver = \"none\"\ncgroups = \"disabled\"\n[engine]\ncgroup_manager = \"cgroupfs\"\n\
         events_logger = \"none\"\nruntime = \"crun\"\nlock_type = \"file\"\ninfra_image = \"{IMAGE}\"\n\
         [secrets]\ndriver = \"shell\"\n[secrets.opts]\n{commands}"
    )
}

/// A pod that writes what it has of the secret `myapp` below `out`.
fn pod(out: &Path, variables: bool) -> String {
    let env = if variables {
        "    env:\n    - name: BY_KEY\n      valueFrom: { secretKeyRef: { name: myapp, key: DB_PW } }\n    \
         envFrom:\n    - secretRef: { name: myapp }\n"
    } else {
        ""
    };
    let script =
        "printf '%s,%s,%s' ${BY_KEY-} ${DB_PW-} ${RENAMED-} >/out/variables; cp /keys/* /out/";
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: pod\nspec:\n  hostNetwork: true\n  restartPolicy: Never\n  \
         containers:\n  - name: c\n    image: {IMAGE}\n    command: [\"/bin/sh\", \"-euc\", \"{script}\"]\n{env}    \
         volumeMounts:\n    - {{ name: out, mountPath: /out }}\n    - {{ name: keys, mountPath: /keys }}\n  volumes:\n  \
         - name: out\n    hostPath: {{ path: {} }}\n  - name: keys\n    secret: {{ secretName: myapp, optional: false }}\n",
        out.display()
    )
}

/// A workload with a renamed key and a file.
fn host() -> Host {
    let workloads = "[workloads.myapp]\nprovider = \"infisical\"\nkube = true\nmount = [\"tls.pem\"]\nsecrets = [\n  \
                     { project = \"myproject\", path = \"/myapp\" },\n  \
                     { project = \"myproject\", path = \"/db\", env = { RENAMED = \"URL\" } },\n]\n";
    let secrets = json!({
        "/myapp": {"DB_PW": "hunter2", "tls.pem": "line\r\n\u{e4}\n"},
        "/db": {"URL": "postgres", "OTHER": "unused"},
    });
    Host::of(&secrets, workloads)
}

fn document(host: &Host) -> String {
    host.lookup("myapp")
}

#[test]
fn document_holds_all_secrets_of_the_workload() {
    let mut host = host();
    let report = host.set_up(&[]);
    assert_eq!(report["podman_writes"], 4, "{report}");
    let all = ["myapp", "myapp--DB_PW", "myapp--RENAMED", "myapp--tls.pem"];
    assert_eq!(host.ids().into_keys().collect::<Vec<_>>(), all);
    let expected = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: \"myapp\"\ntype: Opaque\ndata:\n  \
                    \"DB_PW\": \"aHVudGVyMg==\"\n  \"RENAMED\": \"cG9zdGdyZXM=\"\n  \"tls.pem\": \"bGluZQ0Kw6QK\"\n";
    assert_eq!(document(&host), expected);
    assert_eq!(host.driver(&["get", "myapp"]).text(), expected);
    assert!(!host.drop_in("myapp").contains("Secret=myapp,"), "no container has it");
    assert_eq!(host.set_up(&[])["podman_writes"], 0);
    host.dry_run(0);
    // It follows the provider, and survives an outage and a reboot.
    host.infisical.put("/db", "URL", "other");
    host.driver(&["cache", "refresh"]).ok();
    assert!(document(&host).contains("\"RENAMED\": \"b3RoZXI=\""));
    assert_eq!(host.psid.as_ref().unwrap().status()["survives_outage"], true);
    host.infisical.kill();
    host.stop_psid();
    host.start_psid();
    assert!(document(&host).contains("\"RENAMED\": \"b3RoZXI=\""));
    let secrets: Value = serde_json::from_str(&host.driver(&["secrets", "--json"]).text()).unwrap();
    assert!(secrets.to_string().contains("psi workload=myapp"), "{secrets}");
}

/// Before 4.4, podman takes JSON alone for variables, and leaves the base64 of files as it is.
#[test]
fn kube_play_takes_the_document() {
    let host = host();
    host.set_up(&[]);
    let out = tempfile::tempdir_in("/tmp").unwrap();
    let play = |variables| {
        let file = host.instance.directory().join("pod.yaml");
        std::fs::write(&file, pod(out.path(), variables)).unwrap();
        let outcome = host.podman.run(&["kube", "play", file.to_str().unwrap()], b"");
        if outcome.code == 0 {
            host.podman.ok(&["wait", "pod-c"]);
        }
        host.podman.ok(&["pod", "rm", "-fa", "-t", "0"]);
        outcome
    };
    host.podman.infra_image();
    let outcome = play(true);
    let read = |name: &str| std::fs::read_to_string(out.path().join(name)).unwrap();
    let warning = "kube = true has no effect with podman ";
    let warned = host.setup(&["--dry-run"]).run().stdout_text().contains(warning);
    if host.podman.is_before(4, 4) {
        assert!(outcome.stderr.contains("secret myapp is not valid JSON"), "{}", outcome.stderr);
        assert_eq!((play(false).code, warned), (0, true));
        assert_eq!(read("RENAMED"), "cG9zdGdyZXM=");
        return;
    }
    assert_eq!((outcome.code, warned), (0, false), "{}", outcome.stderr);
    assert_eq!((read("tls.pem"), read("RENAMED")), ("line\r\n\u{e4}\n".into(), "postgres".into()));
    assert_eq!(read("variables"), "hunter2,hunter2,postgres");
}

/// With psi-driver as podman's driver.
#[test]
fn kube_play_of_each_unpacked_podman_takes_the_document() {
    let host = host();
    host.set_up(&[]);
    let layout = Layout::of(&[
        ("/etc/containers/containers.conf", &config()),
        ("/etc/containers/policy.json", "{\"default\":[{\"type\":\"insecureAcceptAnything\"}]}"),
        (
            "/etc/containers/storage.conf",
            "[storage]\ndriver = \"vfs\"\ngraphroot = \"/var/lib/containers/storage\"\n\
             runroot = \"/run/containers/storage\"\n",
        ),
        ("/psi/pod.yaml", &pod(Path::new("/out"), true)),
        ("/var/tmp/empty", ""),
    ]);
    let socket = format!("/host{}", host.instance.socket().display());
    let layout =
        layout.with("/psi/image.tar", Podman::image()).with_variable("PSI_SOCKET", &socket);
    let script = format!(
        "podman import -q /psi/image.tar --change 'CMD [\"/bin/sleep\", \"1000\"]' {IMAGE} >/out/log 2>&1 &&
         printf '{{\"provider\":\"psi\",\"workload\":\"myapp\"}}' | podman secret create myapp - >>/out/log 2>&1 &&
         podman kube play /psi/pod.yaml >>/out/log 2>&1 && podman wait pod-c >>/out/log 2>&1
         podman pod rm -fa -t 0 >>/out/log 2>&1 || :"
    );
    let podmans = UnpackedPodman::all();
    let mut played = 0;
    for podman in podmans.iter().filter(|podman| podman.is_at_least(4, 4)) {
        let found = podman.run(&layout, &script);
        let text = |name: &str| {
            let log = String::from_utf8_lossy(&found["log"]);
            let file = found.get(name).unwrap_or_else(|| panic!("{}: {log}", podman.version));
            String::from_utf8(file.clone()).unwrap()
        };
        assert_eq!(text("variables"), "hunter2,hunter2,postgres", "{}", podman.version);
        assert_eq!(text("tls.pem"), "line\r\n\u{e4}\n");
        played += 1;
    }
    assert!(played > 0, "no podman that takes a document: run tests/deps.sh");
}

#[test]
fn document_is_whole_or_an_error() {
    let mut host = host();
    host.set_up(&[]);
    let id = host.ids()["myapp"].clone();
    let lookup = |host: &Host| {
        let command = host.podman.driver_options("myapp")["lookup"].clone();
        host.podman.as_podman(&command, &id, b"")
    };
    host.infisical.remove("/db", "URL");
    // Twice and a minute apart evicts; invalidated, it is asked for at once.
    host.driver(&["cache", "invalidate", &reference("/db", "URL")]).ok();
    let outcome = lookup(&host);
    assert_ne!(outcome.code, 0);
    assert!(
        one_line(&outcome.stderr).contains("RENAMED: infisical has no such secret"),
        "{outcome:?}"
    );
    let line = host.driver(&["cache", "invalidate", &id]).fails(65);
    assert!(line.contains("it is all of workload myapp; name one of its secrets"), "{line}");
    host.infisical.put("/db", "URL", "back");
    host.driver(&["cache", "refresh"]).ok();
    // A key of a whole directory that psid lost is not left out in an outage.
    host.driver(&["cache", "invalidate", &reference("/myapp", "DB_PW")]).ok();
    host.infisical.kill();
    let outcome = lookup(&host);
    assert_ne!(outcome.code, 0);
    assert!(outcome.stderr.contains("psid does not know every secret of"), "{}", outcome.stderr);
    host.reconfigure(&workload("myapp", &[("/myapp", false)]));
    let outcome = lookup(&host);
    assert!(
        outcome.stderr.contains("has no [workloads.\"myapp\"] with kube = true"),
        "{outcome:?}"
    );
}

#[test]
fn document_over_podmans_limit_and_a_taken_name_are_errors() {
    let kube = |host: &mut Host| {
        host.reconfigure(&(workload("myapp", &[("/myapp", false)]) + "kube = true\n"));
        let outcome = host.setup(&[]).run();
        (outcome.code, String::from_utf8(outcome.stdout).unwrap())
    };
    let big = "x".repeat(100_000);
    let mut host = Host::with_myapp(&json!({"A": big, "B": big, "C": big, "D": big}));
    let (code, output) = kube(&mut host);
    assert!(code == 65 && output.contains("and podman takes at most 511999"), "{output}");
    assert!(!host.ids().contains_key("myapp") && host.ids().len() == 4);
    let mut host = Host::with_myapp(&json!({"A": "1"}));
    host.podman.create("myapp", reference("/myapp", "A"));
    let (code, output) = kube(&mut host);
    assert!(code == 65 && output.contains("the name myapp for kube = true is taken"), "{output}");
    assert_eq!(host.lookup("myapp"), "1");
    host.podman.ok(&["secret", "rm", "myapp"]);
    host.podman.create("myapp", "a literal");
    let (code, output) = kube(&mut host);
    assert!(code == 65 && output.contains("myapp is a literal that only psid has"), "{output}");
    host.podman.ok(&["secret", "rm", "myapp"]);
    assert_eq!(kube(&mut host).0, 0);
    // Without kube = true it is no longer listed, and pruned.
    host.reconfigure(&workload("myapp", &[("/myapp", false)]));
    assert_eq!(host.set_up(&["--prune"])["removed"], json!(["myapp"]));
    assert_eq!(host.ids().into_keys().collect::<Vec<_>>(), ["myapp--A"]);
}

/// `podman kube play` replaces a secret by a document of its name, without a question.
#[test]
fn document_of_a_pod_that_replaced_a_secret_is_found_and_not_migrated() {
    let host = host();
    host.set_up(&[]);
    let file = host.instance.directory().join("secret.yaml");
    let of = |name: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}\ndata:\n  DB_PW: b2xk\n---\n"
        )
    };
    std::fs::write(&file, of("myapp") + &of("unrelated")).unwrap();
    host.podman.ok(&["kube", "play", file.to_str().unwrap()]);
    let doctor = host.driver(&["doctor", "--json"]).run();
    let found: Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let findings = found["findings"].as_array().unwrap().iter();
    let replaced: Vec<&Value> =
        findings.filter(|finding| finding["cause"] == "secret-replaced").collect();
    assert_eq!(replaced.len(), 1, "{found}");
    let what = replaced[0]["what"].as_str().unwrap();
    assert!(what.ends_with("in plaintext: myapp"), "{what}");
    let outcome = host.setup(&[]).run();
    let output = String::from_utf8(outcome.stdout).unwrap();
    assert!(outcome.code == 65 && output.contains("myapp is a secret of podman's file driver"));
    let outcome = host.driver(&["migrate", "--from", "file", "--program", psi_driver()]).run();
    let output = String::from_utf8(outcome.stdout).unwrap();
    assert!(outcome.code == 65 && output.contains("it is a `kind: Secret` document"), "{output}");
    // One that replaced no secret of psi becomes a literal, which podman takes as before.
    assert!(host.lookup("unrelated").contains("kind: Secret"));
    host.podman.ok(&["secret", "rm", "myapp"]);
    host.set_up(&[]);
    assert!(document(&host).contains("\"DB_PW\": \"aHVudGVyMg==\""));
}

fn psi_driver() -> &'static str {
    static PATH: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    PATH.get_or_init(|| program("psi-driver").display().to_string())
}
