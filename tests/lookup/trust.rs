//! TLS trust, redirects and URLs.

use serde_json::json;

use psi_harness::{CLIENT_SECRET, Config, FakeInfisical, Instance, reference};

#[test]
fn configured_ca_is_trusted() {
    let infisical =
        FakeInfisical::with_options(&json!({"/myapp": {"A": "1"}}), &["--tls", "valid"]);
    let instance = Instance::of(&infisical);
    let _psid = instance.start();
    assert_eq!(instance.driver(&["get", &reference("/myapp", "A")]).text(), "1");
}

/// Asserts that psid rejects this certificate with these words, and sends nothing to the server.
fn refused(kind: &str, with_ca: bool, words: &str) {
    let infisical = FakeInfisical::with_options(&json!({"/myapp": {"A": "1"}}), &["--tls", kind]);
    let instance = Instance::of(&infisical);
    if !with_ca {
        let mut config = Config::of(&infisical);
        config.infisical = config
            .infisical
            .lines()
            .filter(|line| !line.starts_with("ca_cert"))
            .map(|line| format!("{line}\n"))
            .collect();
        instance.configure(&config);
    }
    let _psid = instance.start();
    let line = instance.driver(&["get", &reference("/myapp", "A")]).fails(75);
    assert!(line.contains("infisical is out: no connection to 127.0.0.1:"), "{line}");
    assert!(line.to_lowercase().contains(words), "{line}");
    assert!(infisical.log().is_empty());
}

#[test]
fn expired_certificate_is_an_outage() {
    refused("expired", true, "expired");
}

#[test]
fn certificate_of_another_ca_is_an_outage() {
    refused("wrong-ca", true, "unknownissuer");
}

#[test]
fn private_ca_is_not_trusted_by_default() {
    refused("valid", false, "unknownissuer");
}

/// If the config names a CA, psid does not trust the host's CAs.
#[test]
fn configured_ca_is_the_only_trusted_one() {
    let infisical =
        FakeInfisical::with_options(&json!({"/myapp": {"A": "1"}}), &["--tls", "valid"]);
    let another = FakeInfisical::with_options(&json!({}), &["--tls", "valid"]);
    let instance = Instance::of(&infisical);
    let get = || instance.driver(&["get", &reference("/myapp", "A")]);
    let config = |ca: Option<&FakeInfisical>| {
        let mut config = Config::of(&infisical);
        let lines = config.infisical.lines().filter(|line| !line.starts_with("ca_cert"));
        let lines: String = lines.map(|line| format!("{line}\n")).collect();
        let ca = ca.and_then(FakeInfisical::ca);
        let ca = ca.map(|ca| format!("ca_cert = \"{}\"\n", ca.display()));
        config.infisical = lines + &ca.unwrap_or_default();
        config
    };
    // The host trusts the fake's CA.
    let start = || instance.psid().env("SSL_CERT_FILE", infisical.ca().unwrap()).start();
    instance.configure(&config(None));
    let psid = start();
    assert_eq!(get().text(), "1");
    psid.terminate();
    instance.configure(&config(Some(&another)));
    let _psid = start();
    let line = instance.driver(&["get", &reference("/myapp", "NEVER")]).fails(75);
    assert!(line.contains("invalid peer certificate"), "{line}");
}

#[test]
fn unusable_ca_file_is_reported_and_psid_starts() {
    let infisical = FakeInfisical::with(&json!({}));
    let instance = Instance::of(&infisical);
    let ca = instance.directory().join("ca.pem");
    let mut config = Config::of(&infisical);
    config.infisical += &format!("ca_cert = \"{}\"\n", ca.display());
    instance.configure(&config);
    let psid = instance.start();
    let degraded = psid.degraded();
    assert!(degraded.contains("[providers.infisical] is not usable: reading "), "{degraded}");
    assert!(degraded.contains("No such file"), "{degraded}");
    psid.terminate();
    std::fs::write(&ca, "no certificate").unwrap();
    let psid = instance.start();
    assert!(psid.degraded().contains("holds no PEM certificate"), "{}", psid.degraded());
}

/// A redirect of a login or of a read to another origin would send it a secret or a token.
#[test]
fn redirect_to_another_origin_is_refused() {
    let thief = FakeInfisical::with(&json!({"/myapp": {"A": "stolen"}}));
    for (method, code) in
        [("GET", 302), ("GET", 307), ("GET", 308), ("POST", 302), ("POST", 307), ("POST", 308)]
    {
        let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
        let location = format!("{}/api/v4/secrets/A", thief.url());
        infisical.faults(&json!([{
            "match": {"method": method},
            "fault": {"kind": "redirect", "location": location, "code": code},
        }]));
        let instance = Instance::of(&infisical);
        let _psid = instance.start();
        let line = instance.driver(&["get", &reference("/myapp", "A")]).fails(75);
        assert!(line.contains(&format!("redirects to another origin ({code})")), "{line}");
    }
    assert!(thief.log().is_empty());
}

#[test]
fn redirect_within_the_origin_is_followed_without_loops() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1", "B": "2"}}));
    let instance = Instance::of(&infisical);
    let _psid = instance.start();
    let location = format!(
        "{}/api/v4/secrets/A?projectId={}&environment=prod&secretPath=/myapp",
        infisical.url(),
        psi_harness::PROJECT
    );
    let redirect = json!({"kind": "redirect", "location": location, "code": 307});
    infisical.faults(&json!([{"match": {"method": "GET"}, "fault": redirect, "times": 1}]));
    assert_eq!(instance.driver(&["get", &reference("/myapp", "A")]).text(), "1");
    infisical.clear_log();
    infisical.faults(&json!([{"match": {"method": "GET"}, "fault": redirect}]));
    instance.driver(&["get", &reference("/myapp", "B")]).fails(75);
    // psid asks twice: an answer that is not Infisical's may be transient.
    assert!(infisical.reads() <= 24, "{}", infisical.reads());
}

/// URLs are written to the logs of proxies and servers.
#[test]
fn urls_contain_no_secret_and_the_token_is_only_in_its_header() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "the value of A"}}));
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).workload("myapp", "/myapp", false));
    let _psid = instance.start();
    instance.driver(&["get", "myapp--A"]).ok();
    instance.driver(&["cache", "refresh"]).ok();
    let log = infisical.log();
    let login = log.iter().find(|request| request.text("method") == "POST").unwrap();
    assert!(login.text("body").contains(CLIENT_SECRET), "in the body, and nowhere else");
    let read = log.iter().find(|request| request.is_read()).unwrap();
    let token = read.header("authorization").strip_prefix("Bearer ").unwrap();
    for request in &log {
        let url = format!("{} {}", request.text("path"), request.0["query"]);
        let headers = request.0["headers"].to_string();
        for secret in [CLIENT_SECRET, "the value of A", token] {
            assert!(!url.contains(secret), "{url}");
        }
        assert!(!headers.contains(CLIENT_SECRET) && !headers.contains("the value of A"));
        assert!(!request.text("body").contains(token));
        assert!(request.header("user-agent").starts_with("psid/"), "{headers}");
    }
    assert!(log.iter().all(|request| request.text("path") != "/"));
}

/// Users write the URL with and without a slash, and with the `/api` of examples.
#[test]
fn api_url_may_end_in_a_slash_or_api() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    for end in ["/", "/api", "/api/"] {
        let instance = Instance::of(&infisical);
        let mut config = Config::of(&infisical);
        config.infisical =
            config.infisical.replace(infisical.url(), &format!("{}{end}", infisical.url()));
        instance.configure(&config);
        let _psid = instance.start();
        assert_eq!(instance.driver(&["get", &reference("/myapp", "A")]).text(), "1", "{end}");
    }
}
