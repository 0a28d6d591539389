//! The doctor's findings, each with its remedy.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use psi_harness::Host;
use psi_harness::{Outcome, program, reference};

/// The findings; podman's config of these tests is psi's drop-in and the options of its runtime.
fn doctor(host: &Host) -> (i32, Vec<(String, String)>) {
    let report = report(host);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    // Findings about the podman that the tests run on are left out: H9 has a test of its own.
    let all = report["findings"].as_array().unwrap().iter();
    let all = all.filter(|finding| finding["cause"] != "podman-defect");
    let line = |finding: &Value| {
        let cause = text(&finding["cause"]);
        assert!(cause != "other" && !cause.is_empty(), "no cause: {finding}");
        let names: Vec<String> = finding["affects"].as_array().unwrap().iter().map(text).collect();
        format!("{}; {} {names:?}", text(&finding["what"]), text(&finding["remedy"]))
    };
    let code = i32::from(report["well"] != true);
    (code, all.map(|finding| (text(&finding["severity"]), line(finding))).collect())
}

fn report(host: &Host) -> Value {
    let (program, quadlets) = (program("psi-driver"), host.quadlets());
    let args = ["doctor", "--json", "--program", program.to_str().unwrap(), "--quadlets"];
    let call = host.driver(&[&args[..], &[quadlets.to_str().unwrap()]].concat());
    let call = call.env("CREDENTIALS_DIRECTORY", host.instance.credentials());
    let Outcome { code, stdout, stderr } = call.run();
    assert_eq!(stderr, "");
    let report: Value = serde_json::from_slice(&stdout).unwrap();
    assert_eq!(report["well"], code == 0, "{report}");
    report
}

/// The severity and text of the one finding with these words.
#[track_caller]
fn found(host: &Host, words: &str) -> (String, String) {
    let (_, findings) = doctor(host);
    let mut with = findings.iter().filter(|(_, line)| line.contains(words));
    let one = with.next().unwrap_or_else(|| panic!("nothing about '{words}': {findings:#?}"));
    assert_eq!(with.next(), None);
    one.clone()
}

#[track_caller]
fn is_error(host: &Host, words: &str) {
    assert_eq!(found(host, words).0, "error");
}

#[track_caller]
fn is_warning(host: &Host, words: &str) {
    assert_eq!(found(host, words).0, "warning");
}

fn well(secrets: &Value) -> Host {
    let host = Host::with_myapp(secrets);
    host.write_quadlet("myapp");
    host.set_up(&[]);
    assert_eq!(doctor(&host), (0, Vec::new()));
    host
}

#[test]
fn doctor_reports_a_healthy_host() {
    let host = well(&json!({"A": "1"}));
    let (program, quadlets) = (program("psi-driver"), host.quadlets());
    let args = [
        "doctor",
        "--program",
        program.to_str().unwrap(),
        "--quadlets",
        quadlets.to_str().unwrap(),
    ];
    let call = host.driver(&args).env("CREDENTIALS_DIRECTORY", host.instance.credentials());
    let output = call.text();
    assert!(output.ends_with("no problem found\n"), "{output}");
    assert_eq!(report(&host)["units"], json!([]));
}

#[test]
fn doctor_reports_what_stops_containers_as_error() {
    let mut host = well(&json!({"A": "1", "B": "2"}));
    host.podman.ok(&["secret", "rm", "myapp--A"]);
    is_error(&host, "podman has no secret of workloads, named by myapp.service: myapp--A");
    host.set_up(&[]);
    host.stop_psid();
    is_error(&host, "no connection to psid");
    let id = &host.ids()["myapp--B"];
    fs::remove_file(host.instance.state().join("secrets").join(id)).unwrap();
    host.start_psid();
    is_error(
        &host,
        "psid has no registration of 1 secret of podman, so that no container starts with them: myapp--B",
    );
    host.set_up(&[]);
    host.stop_psid();
    fs::write(host.instance.state().join("secrets").join(id), "garbage").unwrap();
    host.start_psid();
    let (severity, line) = found(&host, "is neither a reference nor a sealed literal");
    assert_eq!(severity, "error");
    assert!(line.contains("1 secret: ") && line.contains("myapp--B"), "{line}");
    assert_eq!(units(&host), [("myapp.service".to_owned(), vec!["secret-unusable".to_owned()])]);
}

/// The units that do not start, with the causes.
fn units(host: &Host) -> Vec<(String, Vec<String>)> {
    let report = report(host);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let all = report["units"].as_array().unwrap().iter().map(|unit| {
        (text(&unit["unit"]), unit["causes"].as_array().unwrap().iter().map(text).collect())
    });
    all.collect()
}

/// F: there were thirteen lines for one cause. The remedy restores the key, and never advises to
/// create a literal again that the key opens.
#[test]
fn missing_key_is_one_finding_with_all_affected_literals_and_units() {
    let mut host = well(&json!({"A": "1"}));
    for number in 0..12 {
        host.podman.create(&format!("literal-{number}"), "a literal");
    }
    host.stop_psid();
    host.instance.take_key();
    host.start_psid();
    let (_, findings) = doctor(&host);
    let of_key: Vec<_> = findings.iter().filter(|(_, line)| line.contains("key")).collect();
    assert_eq!(of_key.len(), 1, "{findings:#?}");
    let (severity, line) = of_key[0];
    assert_eq!(severity, "error");
    assert!(line.contains("literal-0") && line.contains("literal-11"), "{line}");
    assert!(findings.iter().all(|(_, line)| !line.contains("create it again")), "{findings:#?}");
    assert_eq!(findings.len(), 1, "{findings:#?}");
}

/// A1, H4: a secret that podman does not list is not reported as gone.
#[test]
fn doctor_does_not_advise_gc_if_podman_knows_no_secret() {
    let host = well(&json!({"A": "1", "B": "2"}));
    let record = host.podman.secrets_directory().join("secrets.json");
    let saved = fs::read(&record).unwrap();
    fs::remove_file(&record).unwrap();
    let (severity, line) = found(&host, "podman has none of the 2 secrets of psid");
    assert_eq!(severity, "warning");
    assert!(!line.contains("psictl gc"), "{line}");
    fs::write(&record, saved).unwrap();
    assert_eq!(doctor(&host), (0, Vec::new()));
}

/// H4
#[test]
fn doctor_reports_two_secrets_of_one_name() {
    let host = well(&json!({"A": "1"}));
    host.podman.create("twice", "one");
    let record = host.podman.secrets_directory().join("secrets.json");
    let mut value: Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    let secrets = value["secrets"].as_object_mut().unwrap();
    let (_, one) = secrets.iter().find(|(_, one)| one["name"] == "twice").unwrap();
    let mut other = one.clone();
    let id = psi_harness::id(7);
    other["id"] = json!(id);
    secrets.insert(id.clone(), other);
    // The result of a `--replace` whose delete was refused.
    value["idToName"][&id] = json!("twice");
    value["nameToID"]["twice"] = json!(id);
    fs::write(&record, value.to_string()).unwrap();
    is_warning(&host, "podman has 2 secrets with the name twice");
}

/// A secret that psid deleted within the last ten minutes can be restored.
#[test]
fn restore_brings_back_a_secret_deleted_without_podman() {
    let host = well(&json!({"A": "1"}));
    let id = host.ids()["myapp--A"].clone();
    host.instance.driver(&["delete"]).id(&id).ok();
    let (severity, line) = found(&host, "deleted in psid within the last ten minutes");
    assert_eq!(severity, "error");
    assert!(line.contains(&format!("`psictl restore {id}`")), "{line}");
    assert_eq!(units(&host), [("myapp.service".to_owned(), vec!["secret-deleted".to_owned()])]);
    host.instance.driver(&["restore", &id]).ok();
    assert_eq!(doctor(&host), (0, Vec::new()));
}

#[test]
fn doctor_reports_outage_and_incomplete_cache() {
    let mut host = well(&json!({"A": "1"}));
    host.infisical.kill();
    host.setup(&[]).run();
    is_warning(&host, "infisical is unreachable");
    host.podman.create("other", reference("/elsewhere", "K"));
    let (severity, line) = found(&host, "infisical is unreachable");
    assert_eq!(severity, "error", "a container with it does not start");
    assert!(line.contains("[\"other\"]"), "{line}");
}

#[test]
fn doctor_reports_uncached_secrets() {
    let host = well(&json!({"A": "1"}));
    host.podman.create("other", reference("/elsewhere", "K"));
    is_warning(
        &host,
        "after a reboot now, with no provider reachable, 1 secret would not be served: other",
    );
}

/// Podman copies the commands into each secret: those of the Python PSI, with its token, or of a
/// psi-driver in another place, remain (N9).
#[test]
fn doctor_reports_outdated_driver_options() {
    let host = well(&json!({"A": "1"}));
    let create = |name: &str, lookup: &str| {
        let options =
            format!("--driver-opts=lookup={lookup},store=exec cat,delete=exec true,list=exec true");
        let args = ["secret", "create", "--driver=shell", &options, name, "-"];
        assert_eq!(host.podman.run(&args, "x").code, 0);
    };
    create(
        "old",
        "curl -sf --unix-socket /run/psi/psi.sock -H 'Authorization: Bearer hunter2' http://localhost/lookup/$SECRET_ID",
    );
    let (severity, line) = found(&host, "commands of psi version 1");
    assert_eq!(severity, "error");
    assert!(line.contains("bearer token") && line.contains("migrate --from psi"), "{line}");
    assert!(!line.contains("hunter2"));
    host.podman.ok(&["secret", "rm", "old"]);
    create("moved", "exec /opt/psi/psi-driver lookup");
    is_error(&host, "for 1 of them it does not exist");
    host.podman.ok(&["secret", "rm", "moved"]);
    create("theirs", "exec pass show $SECRET_ID");
    assert_eq!(doctor(&host), (0, Vec::new()), "secrets of another driver are not psi's");
}

/// `create --replace` and migrations by hand leave the old value in the file driver's file.
#[test]
fn doctor_reports_and_gc_removes_plaintext_of_the_file_driver() {
    let host = well(&json!({"A": "1"}));
    let directory = host.podman.secrets_directory().join("filedriver");
    let path = format!("--driver-opts=path={}", directory.display());
    let create = ["secret", "create", "--driver=file", &path, "in-clear", "-"];
    assert_eq!(host.podman.run(&create, "hunter2").code, 0);
    is_warning(&host, "podman's file driver keeps 1 secret in plaintext: in-clear");
    let data = directory.join("secretsdata.json");
    let text = fs::read_to_string(&data).unwrap();
    let left = text.replace("{", &format!("{{\"{}\": \"aHVudGVyMg==\",", "0".repeat(25)));
    fs::write(&data, left).unwrap();
    is_warning(
        &host,
        "holds 1 value in plaintext of secrets that are in another driver or deleted",
    );
    let output = host.driver(&["gc", "--remove-plaintext"]).text();
    assert!(output.starts_with("removed 1 plaintext value from "), "{output}");
    assert_eq!(doctor(&host).1.len(), 1);
    let value: Value = serde_json::from_slice(&fs::read(&data).unwrap()).unwrap();
    assert_eq!(value, serde_json::from_str::<Value>(&text).unwrap());
    host.podman
        .container(&["--secret=in-clear"], "test \"$(cat /run/secrets/in-clear)\" = hunter2");
}

#[test]
fn doctor_reports_copies_that_podman_writes() {
    let host = well(&json!({"A": "value of A"}));
    let secrets = ["--secret=myapp--A", "--secret=myapp--A,type=env,target=A"];
    let args =
        [&["run", "-d", "--name=app"], &secrets[..], &["localhost/bb:1", "sleep", "1000"]].concat();
    host.podman.ok(&args);
    let (severity, line) = found(&host, "running container");
    assert_eq!(severity, "note");
    assert!(line.contains("in plaintext below") && line.contains(": app; "), "{line}");
    // Podman's own files do hold the value.
    assert!(
        psi_harness::directory_holds(&host.podman.secrets_directory().join(".."), b"value of A")
            .is_some()
    );
    host.podman.ok(&["kill", "app"]);
    let stopped =
        || doctor(&host).1.into_iter().find(|(_, line)| line.contains("stopped container"));
    let (severity, line) = psi_harness::eventually("podman to see the end", stopped);
    assert!(severity == "warning" && line.contains("`podman rm`"), "{line}");
    host.podman.ok(&["rm", "-f", "-t", "0", "app"]);
    assert_eq!(doctor(&host), (0, Vec::new()));
}

#[test]
fn doctor_names_the_config_file_that_overrides() {
    let host = well(&json!({"A": "1"}));
    let config = host.instance.directory().join("containers.conf");
    let (_, own) = host.podman.environment().find(|(name, _)| *name == "CONTAINERS_CONF").unwrap();
    let own = fs::read_to_string(own).unwrap();
    let with = |text: &str| {
        fs::write(&config, text).unwrap();
        let program = program("psi-driver");
        let args = ["doctor", "--program", program.to_str().unwrap()];
        let call = host.driver(&args).env("CONTAINERS_CONF", &config);
        String::from_utf8(call.run().stdout).unwrap()
    };
    let output = with(&format!("{own}root = \"/x\"\n"));
    let line = format!("error: {} sets [secrets.opts] root", config.display());
    assert!(output.contains(&line), "{output}");
    // Podman does refuse it.
    let mut create = host.podman.command(&["secret", "create", "x", "-"]);
    create.env("CONTAINERS_CONF", &config);
    let refused = psi_harness::run(create, b"x");
    assert!(refused.stderr.contains("invalid shell driver option"), "{}", refused.stderr);
    let output = with(&own.replace("driver = \"shell\"", "driver = \"file\""));
    assert!(output.contains("stores new secrets with podman's file driver"), "{output}");
}

#[test]
fn doctor_checks_permissions_and_credentials() {
    let host = well(&json!({"A": "1"}));
    fs::set_permissions(host.instance.socket(), fs::Permissions::from_mode(0o666)).unwrap();
    is_warning(&host, "other users than root may connect");
    fs::set_permissions(host.instance.socket(), fs::Permissions::from_mode(0o600)).unwrap();
    host.instance.take_client_secret();
    is_warning(&host, "the credential infisical-client-secret is not in");
    let path = host.instance.config().with_file_name("infisical-client-secret.cred");
    fs::write(&path, "no credential").unwrap();
    let (_, findings) = doctor(&host);
    let about: Vec<_> =
        findings.iter().filter(|(_, line)| line.contains("client-secret")).collect();
    assert!(
        about.iter().any(|(severity, line)| severity == "error" && line.contains("does not open")),
        "{about:?}"
    );
    assert!(
        about.iter().any(|(_, line)| line.contains("does not show what it is sealed to")),
        "{about:?}"
    );
    host.instance.take_key();
    is_error(&host, "there is no key: no credential psi-cache-key, no /");
}

#[test]
fn doctor_reports_quadlet_files_of_the_python_psi() {
    let host = well(&json!({"A": "1"}));
    fs::write(host.drop_in_path("myapp").with_file_name("50-secrets.conf"), "[Container]\n")
        .unwrap();
    is_warning(&host, "drop-ins of psi version 1 are still installed");
    fs::write(host.quadlets().join("psi-secrets-setup.container"), "[Container]\n").unwrap();
    is_warning(&host, "units of psi version 1 are still installed");
    fs::remove_file(host.quadlets().join("myapp.container")).unwrap();
    is_warning(&host, "has no effect: ");
}

#[test]
fn doctor_reports_a_broken_config_with_its_line() {
    let host = well(&json!({"A": "1"}));
    fs::write(host.instance.config(), "[cache]\nbackend = \"floppy\"\n").unwrap();
    is_error(&host, "config.toml:2: unknown variant `floppy`");
}
