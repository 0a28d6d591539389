//! Wrong answers and flags: nothing is written.

use serde_json::json;

use psi_harness::FakeInfisical;

use super::super::staged_host::{StagedHost, With};
use super::assert_answer;

/// The flags with one value replaced.
fn with(host: &StagedHost, flag: &str, value: &str) -> Vec<String> {
    let mut flags = host.flags();
    let at = flags.iter().position(|known| known == flag).unwrap();
    flags[at + 1] = value.to_owned();
    flags
}

/// `psictl init` with one value replaced ends with this status and the sentence of the table; nothing is written.
#[track_caller]
fn assert_refused(host: &StagedHost, code: i32, (flag, value): (&str, &str), mistake: &str) {
    let before = host.files();
    let (report, error) = host.init_ends(code, &with(host, flag, value), &[]);
    assert_answer(host, mistake, &error);
    assert!(report.is_empty() || report.ends_with("\nnothing was changed\n"), "{report}");
    assert_eq!(host.files(), before, "{mistake}");
}

#[test]
fn wrong_client_secret_is_to_be_corrected() {
    let host = StagedHost::new();
    let file = |name: &str, text: &str| host.file(name, text).display().to_string();
    for (name, text, code, mistake, logins) in [
        ("empty", "\n", 65, "empty file of the client secret", 0),
        ("quotes", "\"the-secret\"", 65, "client secret in quotes", 0),
        ("wrong", "not-the-secret", 65, "wrong client secret", 1),
    ] {
        let path = file(name, text);
        assert_refused(&host, code, ("--client-secret-file", &path), mistake);
        assert_eq!(host.logins(), logins, "{mistake}");
    }
    let missing = format!("{}missing", host.files_prefix());
    let given = ("--client-secret-file", missing.as_str());
    assert_refused(&host, 65, given, "no file of the client secret");
    host.init_ends(0, &host.flags(), &[]);
}

#[test]
fn wrong_project_is_to_be_corrected() {
    let host = StagedHost::new();
    let id = psi_harness::PROJECT;
    let given = ("--project", "myproject=my-project:prod");
    assert_refused(&host, 65, given, "project's name in place of its id");
    let given = ("--project", "myproject=00000000-0000-4000-8000-00000000ffff:prod");
    assert_refused(&host, 65, given, "id of a project that does not exist");
    let given = ("--project", &*format!("myproject={id}:Production"));
    assert_refused(&host, 65, given, "environment's name in place of its slug");
    host.infisical.end_membership();
    let given = ("--project", &*format!("myproject={id}:prod"));
    assert_refused(&host, 65, given, "identity that is no member of the project");
}

#[test]
fn wrong_workload_is_to_be_corrected() {
    let host = StagedHost::new();
    for (workload, mistake) in [
        ("myapp=myproject:/nope", "directory that does not exist"),
        ("myapp=myproject:myapp", "directory without a leading slash"),
        ("myapp.container=myproject:/myapp", "workload named like a unit's file"),
        ("my app=myproject:/myapp", "workload named with a blank"),
        ("myapp=other:/myapp", "workload of another project"),
    ] {
        assert_refused(&host, 65, ("--workload", workload), mistake);
    }
}

#[test]
fn wrong_url_is_to_be_corrected() {
    let host = StagedHost::new();
    for (url, mistake) in [
        ("infisical.example", "URL without https://"),
        ("http://infisical.example", "http to another host"),
    ] {
        assert_refused(&host, 65, ("--api-url", url), mistake);
    }
    assert_refused(
        &host,
        75,
        ("--api-url", "https://infisical.invalid"),
        "host name that does not exist",
    );
    host.infisical.fault(&json!({"kind": "html-404"}));
    let url = host.infisical.url().to_owned();
    assert_refused(&host, 65, ("--api-url", &url), "URL of another server");
}

#[test]
fn certificate_of_another_ca_names_the_flag() {
    let secrets = json!({"/myapp": {"TOKEN": "t0ken"}});
    let host =
        StagedHost::of(FakeInfisical::with_options(&secrets, &["--tls", "valid"]), With::Tpm);
    let url = host.infisical.url().to_owned();
    assert_refused(&host, 65, ("--api-url", &url), "certificate of a CA of one's own");
    let ca = std::fs::read_to_string(host.infisical.ca().unwrap()).unwrap();
    let ca = host.file("ca.pem", &ca).display().to_string();
    let (_, error) = host.init_ends(65, &host.flags(), &["--ca-cert", &ca]);
    assert_answer(&host, "CA in a directory that psid does not see", &error);
    host.sh(&format!("install -m 0644 {ca} /etc/psi/ca.pem"));
    host.init_ends(0, &host.flags(), &["--ca-cert", "/etc/psi/ca.pem"]);
}

#[test]
fn provider_that_is_down_is_for_later() {
    let mut host = StagedHost::new();
    host.infisical.kill();
    let url = host.infisical.url().to_owned();
    assert_refused(&host, 75, ("--api-url", &url), "provider down at the first start");
}

#[test]
fn missing_answers_are_a_usage_error() {
    let host = StagedHost::new();
    let outcome = host.run(&["psictl", "init"], "");
    assert_eq!(outcome.code, 2);
    assert_answer(&host, "no terminal and no --yes", &outcome.stderr);
    let outcome = host.run(&["psictl", "init", "--yes"], "");
    assert_eq!(outcome.code, 2);
    assert_answer(&host, "missing flags", &outcome.stderr);
}

#[test]
fn recovery_key_needs_a_new_file() {
    let host = StagedHost::new();
    let flags: Vec<String> =
        host.flags().into_iter().filter(|flag| flag != "--no-recovery-key").collect();
    let (_, error) = host.init_ends(2, &flags, &[]);
    assert_answer(&host, "no place for the recovery key", &error);
    let file = host.file("recovery-key", "of another host").display().to_string();
    let (_, error) = host.init_ends(65, &flags, &["--recovery-key-file", &file]);
    assert_answer(&host, "file of the recovery key exists", &error);
    assert_eq!(host.logins(), 0);
}
