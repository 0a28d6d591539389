//! `psid check --online`: what the server, each login and each source answer, without a daemon.

use std::fs;

use serde_json::{Value, json};

use psi_harness::{
    CLIENT_SECRET, Config, FakeInfisical, IDENTITY, Instance, Outcome, fault,
    seed_with_two_identities,
};

fn online(instance: &Instance, more: &[&str]) -> Outcome {
    instance.psid().args(&[&["check", "--online"][..], more].concat()).run()
}

/// The report as JSON, and the line on stderr; the exit status must be this one.
#[track_caller]
fn report(instance: &Instance, code: i32, more: &[&str]) -> (Value, String) {
    let outcome = online(instance, &[&["--json"][..], more].concat());
    let text = outcome.stdout_text();
    assert_eq!(outcome.code, code, "{text}{}", outcome.stderr);
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["well"], code == 0, "{report}");
    (report, outcome.stderr)
}

fn secrets() -> Value {
    json!({"/myapp": {"A": "1", "B": "2"}, "/shared": {"C": "3"}})
}

fn configured(infisical: &FakeInfisical) -> Instance {
    let instance = Instance::of(infisical);
    let config = Config::of(infisical).workload("app", "/myapp", false);
    instance.configure(&config.workload("web", "/shared", false));
    instance
}

#[test]
fn check_online_lists_each_source_and_logs_in_once() {
    let infisical = FakeInfisical::with(&secrets());
    let instance = configured(&infisical);
    let (report, stderr) = report(&instance, 0, &[]);
    assert_eq!(stderr, "");
    assert_eq!((infisical.logins(), infisical.reads()), (1, 2));
    assert_eq!(infisical.count("POST", "/api/v1/auth/token/revoke"), 1);
    let login = &report["logins"][0];
    assert_eq!(login["identity"], "universal-auth client client");
    assert_eq!((&login["ok"], &login["provider"]), (&json!(true), &json!("infisical")));
    assert_eq!(login["projects"], json!(["myproject"]));
    let source = &report["sources"][0];
    assert_eq!((&source["path"], &source["keys"]), (&json!("/myapp"), &json!(2)));
    assert_eq!((&source["project"], &source["ok"]), (&json!("myproject"), &json!(true)));
    assert_eq!(source["workloads"], json!(["app"]));
    let ahead = report["servers"][0]["clock_ahead_seconds"].as_i64().unwrap();
    assert!(ahead.abs() <= 2, "{report}");
    let text = online(&instance, &[]);
    assert!(
        text.stdout_text().contains("source     myproject:/myapp: 2 keys, for the workload app\n")
    );
    assert!(!text.stdout_text().contains("value"), "no value is shown");
    assert!(!instance.state().exists(), "nothing is registered");
}

#[test]
fn check_online_names_the_selected_key_that_is_missing() {
    let infisical = FakeInfisical::with(&secrets());
    let instance = Instance::of(&infisical);
    let mut config = Config::of(&infisical);
    config.rest = "[workloads.app]\nprovider = \"infisical\"\nsecrets = [\n  { project = \"myproject\", path = \
                   \"/myapp\", env = { DATABASE_URL = \"URL\", COPY = \"A\" } },\n  { project = \"myproject\", path = \
                   \"/shared\", keys = [\"C\"] },\n]\n"
        .into();
    instance.configure(&config);
    let (report, _) = report(&instance, 1, &[]);
    let left_out = report["sources"][0]["left_out"].as_array().unwrap();
    assert_eq!((left_out.len(), &left_out[0]["key"]), (1, &json!("URL")), "{report}");
    let why = left_out[0]["why"].as_str().unwrap();
    assert!(why.starts_with("myproject:/myapp has no key 'URL' that psid may read"), "{why}");
    infisical.put("/myapp", "URL", "3");
    assert_eq!(online(&instance, &[]).code, 0);
}

#[test]
fn wrong_client_secret_costs_one_login_until_it_changes_or_retry() {
    let infisical = FakeInfisical::with(&secrets());
    let instance = configured(&infisical);
    instance.give_client_secret("a-wrong-secret");
    let (first, stderr) = report(&instance, 65, &[]);
    let problem = &first["logins"][0]["problem"];
    let what = problem["what"].as_str().unwrap();
    assert!(what.contains("the client id or the client secret is wrong"), "{what}");
    assert!(problem["remedy"].as_str().unwrap().contains("seal a new client secret"), "{problem}");
    assert_eq!(first["sources"][0]["ok"], false);
    assert!(stderr.starts_with("psid: Infisical refuses the login as "), "{stderr}");
    for _ in 0..3 {
        let (again, stderr) = report(&instance, 65, &[]);
        let what = again["logins"][0]["problem"]["what"].as_str().unwrap();
        assert!(what.contains("it is not tried again meanwhile"), "{what}");
        assert!(stderr.contains("--retry"), "{stderr}");
    }
    assert_eq!((infisical.logins(), infisical.reads()), (1, 0));
    report(&instance, 65, &["--retry"]);
    assert_eq!(infisical.logins(), 2);
    // The running psid knows of it.
    let psid = instance.start();
    instance.driver(&["cache", "refresh"]).run();
    assert_eq!(infisical.logins(), 2);
    psid.terminate();
    instance.give_client_secret(CLIENT_SECRET);
    report(&instance, 0, &[]);
    assert_eq!(infisical.logins(), 3);
}

#[test]
fn locked_identity_and_server_that_is_out_are_to_be_tried_later() {
    let mut infisical = FakeInfisical::with(&secrets());
    let instance = configured(&infisical);
    infisical.fault_login(IDENTITY, &fault::locked());
    let (locked, stderr) = report(&instance, 75, &[]);
    let problem = &locked["logins"][0]["problem"];
    assert_eq!(problem["try_later"], true);
    assert!(problem["remedy"].as_str().unwrap().starts_with("try again in "), "{problem}");
    assert!(stderr.contains("temporarily locked"), "{stderr}");
    instance.forget_refusals();
    infisical.fault_login(IDENTITY, &fault::server_error());
    report(&instance, 75, &[]);
    infisical.kill();
    let (out, stderr) = report(&instance, 75, &[]);
    assert_eq!(out["servers"][0]["problem"]["try_later"], true);
    assert!(stderr.contains("check api_url in [providers.infisical]"), "{stderr}");
    assert_eq!(out["logins"][0]["ok"], false);
    // The same cause is reported once.
    let text = online(&instance, &[]).stdout_text();
    assert_eq!(text.matches("for the same reason").count(), 3, "{text}");
}

#[test]
fn wrong_project_environment_and_path_have_a_sentence_each() {
    let infisical = FakeInfisical::with(&secrets());
    let instance = Instance::of(&infisical);
    let good = Config::of(&infisical).workload("app", "/myapp", false).to_string();
    let with = |from: &str, to: &str| {
        let text = good.replace(from, to);
        assert_ne!(text, good);
        fs::write(instance.config(), text).unwrap();
        let (report, _) = report(&instance, 65, &[]);
        assert_eq!(report["logins"][0]["ok"], true, "{report}");
        let problem = &report["sources"][0]["problem"];
        assert_eq!(problem["try_later"], false, "{report}");
        let line = format!("{}; {}", problem["what"], problem["remedy"]);
        line.replace('"', "")
    };
    let line = with("00000000000a", "0000000000ff");
    assert!(line.contains("Infisical has no project with the id 6f2d1b0e-"), "{line}");
    assert!(line.contains("to [providers.infisical.projects.myproject]"), "{line}");
    let line = with("\"/myapp\"", "\"/myap\"");
    assert!(line.contains("has no directory /myap"), "{line}");
    let line = with("environment = \"prod\"", "environment = \"production\"");
    assert!(
        line.contains("the environment production of the project myproject does not exist"),
        "{line}"
    );
    infisical.end_membership();
    fs::write(instance.config(), &good).unwrap();
    let (_, stderr) = report(&instance, 65, &[]);
    assert!(stderr.contains("the identity is no member of the project myproject"), "{stderr}");
}

#[test]
fn directory_that_may_not_be_read_is_to_be_corrected() {
    let infisical = FakeInfisical::with(&secrets());
    let instance = configured(&infisical);
    infisical.permit(&json!([]));
    let (_, stderr) = report(&instance, 65, &[]);
    assert!(stderr.contains("the identity may not read /myapp in prod"), "{stderr}");
    assert!(stderr.contains("give universal-auth client client a role"), "{stderr}");
    assert_eq!(infisical.logins(), 1);
}

#[test]
fn project_without_workload_is_checked_at_its_top() {
    let infisical = FakeInfisical::with(&secrets());
    let instance = Instance::of(&infisical);
    let (well, _) = report(&instance, 0, &[]);
    assert_eq!(
        (&well["sources"][0]["path"], &well["sources"][0]["workloads"]),
        (&json!("/"), &json!([]))
    );
    let text = fs::read_to_string(instance.config()).unwrap();
    fs::write(instance.config(), text.replace("00000000000a", "0000000000ff")).unwrap();
    let (_, stderr) = report(&instance, 65, &[]);
    assert!(stderr.contains("Infisical has no project with the id"), "{stderr}");
}

#[test]
fn keys_that_podman_cannot_take_are_left_out_with_status_1() {
    let infisical =
        FakeInfisical::with(&json!({"/myapp": {"GOOD": "1", "tls.key": "2", "a b": "3"}}));
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).workload("app", "/myapp", false));
    let (report, stderr) = report(&instance, 1, &[]);
    let source = &report["sources"][0];
    assert_eq!((&source["ok"], &source["keys"]), (&json!(true), &json!(3)));
    let keys: Vec<&Value> =
        source["left_out"].as_array().unwrap().iter().map(|one| &one["key"]).collect();
    assert_eq!(keys, ["a b", "tls.key"]);
    assert!(stderr.contains("2 secrets are left out"), "{stderr}");
}

#[test]
fn given_secret_and_config_are_read_from_descriptors() {
    let infisical = FakeInfisical::with(&secrets());
    let instance = configured(&infisical);
    instance.take_client_secret();
    let (secret, candidate) =
        (instance.directory().join("secret"), instance.directory().join("candidate"));
    fs::write(&secret, format!("{CLIENT_SECRET}\n")).unwrap();
    fs::rename(instance.config(), &candidate).unwrap();
    let script = format!("exec \"$@\" 3<{} 4<{}", secret.display(), candidate.display());
    let call = |more: &[&str]| {
        let args = ["--config", "/dev/fd/4", "check", "--online", "--secret-fd", "3", "--json"];
        let start = instance.psid().args(&[&args[..], more].concat());
        start.through(&["/bin/sh", "-c", &script, "sh"]).run()
    };
    let outcome = call(&[]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{}", outcome.stdout_text());
    fs::write(&secret, "wrong").unwrap();
    for _ in 0..2 {
        let outcome = call(&[]);
        assert_eq!(outcome.code, 65, "{}", outcome.stderr);
        assert!(outcome.stderr.contains("give the identity's client id"), "{}", outcome.stderr);
    }
    assert_eq!(infisical.logins(), 2);
    // A descriptor that is not open.
    let line = instance.psid().args(&["check", "--online", "--secret-fd", "9"]).run();
    assert_eq!(line.code, 65, "the config is gone: {}", line.stderr);
}

#[test]
fn one_given_secret_is_not_sent_for_two_identities() {
    let infisical = FakeInfisical::launch(&seed_with_two_identities(&secrets()), &[]);
    let instance = Instance::of(&infisical);
    let mut config = Config::of(&infisical);
    config.rest = "[providers.infisical.projects.other]\nid = \"6f2d1b0e-0000-4000-8000-00000000000a\"\n\
                   environment = \"prod\"\nauth = { method = \"universal-auth\", client_id = \"other-client\", \
                   client_secret_file = \"/nonexistent\" }\n"
        .into();
    instance.configure(&config);
    let start = instance.psid().args(&["check", "--online", "--secret-fd", "0"]);
    let outcome = start.run();
    assert_eq!(outcome.code, 65);
    assert!(outcome.stderr.contains("the config has 2 with a secret"), "{}", outcome.stderr);
    assert_eq!(infisical.logins(), 0);
    // Without it, each logs in by itself: the one is well, the other lacks its file.
    let (report, stderr) = report(&instance, 65, &[]);
    let logins: Vec<&Value> =
        report["logins"].as_array().unwrap().iter().map(|one| &one["ok"]).collect();
    assert_eq!(logins, [&json!(true), &json!(false)], "{report}");
    assert!(stderr.contains("/nonexistent"), "{stderr}");
    assert_eq!(infisical.logins(), 1);
}

#[test]
fn unknown_certificate_authority_is_to_be_corrected_and_its_age_is_shown() {
    let infisical = FakeInfisical::with_options(&secrets(), &["--tls", "valid"]);
    let instance = configured(&infisical);
    let (well, _) = report(&instance, 0, &[]);
    let days = well["servers"][0]["certificate_days_left"].as_i64();
    assert!(days.is_some_and(|days| days >= 0), "{well}");
    let text = fs::read_to_string(instance.config()).unwrap();
    let without: String = text
        .lines()
        .filter(|line| !line.starts_with("ca_cert"))
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(instance.config(), without).unwrap();
    let (_, stderr) = report(&instance, 65, &[]);
    assert!(stderr.contains("set ca_cert in [providers.infisical]"), "{stderr}");
    assert_eq!(infisical.logins(), 1);
}

/// There is no login by a static token: the first listing shows what it is worth.
#[test]
fn static_token_is_checked_by_a_listing() {
    let infisical = FakeInfisical::with(&secrets());
    let instance = Instance::of(&infisical);
    let mut config = Config::of(&infisical).workload("app", "/myapp", false);
    config.auth = "method = \"token\"\ntoken_credential = \"t\"\n".into();
    instance.configure(&config);
    let token = instance.directory().join("token");
    let call = |text: &str| {
        fs::write(&token, text).unwrap();
        let start = instance.psid().args(&["check", "--online", "--json", "--secret-fd", "0"]);
        let script = format!("exec \"$@\" <{}", token.display());
        start.through(&["/bin/sh", "-c", &script, "sh"]).run()
    };
    let outcome = call(&infisical.access_token());
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{}", outcome.stdout_text());
    for _ in 0..2 {
        let forged = call("eyJhbGciOiJIUzI1NiJ9.eyJhIjoxfQ.c2lnbmF0dXJl");
        assert_eq!(forged.code, 65, "{}", forged.stderr);
        assert!(forged.stderr.contains("make another token"), "{}", forged.stderr);
    }
    assert_eq!(infisical.count("POST", "/api/v1/auth/"), 0, "it outlives the check");
}
