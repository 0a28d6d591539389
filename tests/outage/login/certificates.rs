//! tls-cert: a client certificate, whose key is in a file, in a credential, or on a PKCS#11 token.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use psi_harness::ca::{CLIENT, Ca, Subject, generate_ec_key, openssl};
use psi_harness::{
    Config, FakeInfisical, IDENTITY, Instance, Token, eventually, fault, id, reference, seed,
};

const KEY_CREDENTIAL: &str = "infisical-client-key";

fn secrets() -> Value {
    json!({"/myapp": {"A": "1", "B": "2", "C": "3"}})
}

/// A fake behind a proxy that passes client certificates on, and an instance that logs in by one.
struct Host {
    ca: Ca,
    infisical: FakeInfisical,
    instance: Instance,
}

impl Host {
    fn new() -> Self {
        let ca = Ca::new();
        let settings = json!({"caCertificate": ca.pem()});
        Self::with(ca, &json!({"tlsCert": settings}))
    }

    fn with(ca: Ca, methods: &Value) -> Self {
        let mut seed = seed(&secrets());
        seed["identities"][0]["methods"] = methods.clone();
        let infisical = FakeInfisical::launch(&seed, &["--tls", "valid"]);
        let instance = Instance::empty();
        instance.give_key(&[7; 32]);
        let host = Self { ca, infisical, instance };
        generate_ec_key(&host.key());
        host.ca.certify_key(&host.key(), CLIENT, &host.certificate());
        host.configure(&format!("key_file = \"{}\"\n", host.key().display()), "");
        host
    }

    fn certificate(&self) -> PathBuf {
        self.instance.directory().join("client.pem")
    }

    fn key(&self) -> PathBuf {
        self.instance.directory().join("client.key")
    }

    fn configure(&self, key: &str, rest: &str) {
        let mut config = Config::of(&self.infisical);
        config.auth = format!(
            "method = \"tls-cert\"\nidentity_id = \"{IDENTITY}\"\ncertificate_file = \"{}\"\n{key}",
            self.certificate().display()
        );
        config.rest += rest;
        self.instance.configure(&config);
    }

    fn logins(&self) -> u64 {
        self.infisical.logins_by("tls-cert-auth")
    }

    fn lookup(&self, key: &str) -> psi_harness::Driver {
        self.instance.driver(&["get", &reference("/myapp", key)])
    }
}

#[test]
fn key_in_a_file_or_a_credential_logs_in() {
    let host = Host::new();
    let mut psid = host.instance.start();
    assert_eq!(host.lookup("A").text(), "1");
    assert_eq!(host.lookup("B").text(), "2");
    assert_eq!(host.logins(), 1);
    fs::rename(host.key(), host.instance.credentials().join(KEY_CREDENTIAL)).unwrap();
    host.configure(&format!("key_credential = \"{KEY_CREDENTIAL}\"\n"), "");
    psid.reload();
    assert_eq!(host.lookup("C").text(), "3");
    assert_eq!(host.logins(), 2);
    assert_eq!(psid.degraded(), "");
    let key = fs::read_to_string(host.instance.credentials().join(KEY_CREDENTIAL)).unwrap();
    let log = psid.terminate();
    assert!(!log.contains(key.lines().nth(1).unwrap()), "{log}");
}

/// The server's own reason, one try, and nothing evicted.
#[test]
fn refused_certificate_is_reported_and_its_successor_used_at_once() {
    let host = Host::new();
    let psid = host.instance.start();
    host.instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    assert_eq!(host.instance.driver(&["lookup"]).id(id(1)).text(), "1");
    psid.await_generation_after(0);
    psid.terminate();
    let stranger = Ca::new();
    stranger.certify_key(&host.key(), CLIENT, &host.certificate());
    host.infisical.clear_log();
    let psid = host.instance.start();
    for key in ["B", "C"] {
        let line = host.lookup(key).fails(75);
        assert!(
            line.contains("Access denied: Certificate not issued by the provided CA."),
            "{line}"
        );
        assert!(line.contains("TLS Certificate auth in Infisical the CA that issued"), "{line}");
        assert!(line.contains("psid tries again in "), "{line}");
    }
    assert_eq!(host.logins(), 1);
    assert!(psid.degraded().contains("not issued by the provided CA"), "{}", psid.degraded());
    let expired = Subject { days: -1, ..CLIENT };
    host.ca.certify_key(&host.key(), expired, &host.certificate());
    let line = host.lookup("B").fails(75);
    assert!(line.contains("Access denied: Certificate has expired."), "{line}");
    assert!(line.contains("; by this host's clock, the credential has expired"), "{line}");
    assert_eq!(host.instance.driver(&["lookup"]).id(id(1)).text(), "1");
    host.ca.certify_key(&host.key(), CLIENT, &host.certificate());
    assert_eq!(host.lookup("B").text(), "2");
    assert_eq!(host.logins(), 3);
    assert_eq!(psid.degraded(), "");
}

#[test]
fn certificate_changed_between_logins_is_used() {
    let host = Host::new();
    let _psid = host.instance.start();
    host.lookup("A").ok();
    host.infisical.advance(2_592_000 + 1);
    generate_ec_key(&host.key());
    host.ca.certify_key(&host.key(), CLIENT, &host.certificate());
    assert_eq!(host.lookup("B").text(), "2");
    let log = host.infisical.log();
    let sent: Vec<&str> = log
        .iter()
        .map(|request| request.header("x-identity-tls-cert-auth-client-cert"))
        .filter(|certificate| !certificate.is_empty())
        .collect();
    assert!(sent.len() == 2 && sent[0] != sent[1], "{} logins", sent.len());
}

#[test]
fn refusal_of_the_identity_names_the_certificate_and_how_to_read_it() {
    let chain = json!({"verifyClientCertificateChain": true});
    for (settings, words) in [
        (json!({"allowedCommonNames": "other"}), "TLS Certificate Auth common name not allowed."),
        (
            json!({"allowedSubjectAltNames": ["uri:spiffe://example.org/host"]}),
            "TLS Certificate Auth subject alternative name not allowed.",
        ),
        (
            json!({"caCertificate": Ca::new().pem(), "verifyClientCertificateChain": true}),
            "Certificate chain could not be validated against the provided CA.",
        ),
        (chain, ""),
        (json!(null), "TLS Certificate auth method not found for identity"),
    ] {
        let ca = Ca::new();
        let mut methods = json!({"tlsCert": {"caCertificate": ca.pem()}});
        match settings.as_object() {
            Some(more) => methods["tlsCert"].as_object_mut().unwrap().extend(more.clone()),
            None => methods = json!({}),
        }
        let host = Host::with(ca, &methods);
        let _psid = host.instance.start();
        if words.is_empty() {
            assert_eq!(host.lookup("A").text(), "1");
            continue;
        }
        let line = host.lookup("A").fails(75);
        assert!(line.contains(words), "{line}");
        let read = format!("`openssl x509 -in {} -noout ", host.certificate().display());
        assert!(line.contains(&read), "{line}");
        assert_eq!(host.logins(), 1);
    }
}

/// The CA that Infisical trusts issued the intermediate, which the file holds after the certificate.
#[test]
fn intermediates_in_the_file_are_presented() {
    let root = Ca::new();
    let settings = json!({"caCertificate": root.pem(), "verifyClientCertificateChain": true});
    let names = "extendedKeyUsage=clientAuth\nsubjectAltName=URI:spiffe://example.org/host,DNS:Host.example\n";
    for allowed in [json!([]), json!(["uri:spiffe://example.org/host"]), json!(["host.EXAMPLE"])] {
        let mut settings = settings.clone();
        settings["allowedSubjectAltNames"] = allowed;
        let host = Host::with(Ca::below(&root), &json!({"tlsCert": settings}));
        let subject = Subject { extensions: names, ..CLIENT };
        host.ca.certify_key(&host.key(), subject, &host.certificate());
        let psid = host.instance.start();
        let line = host.lookup("A").fails(75);
        assert!(line.contains("Certificate chain could not be validated"), "{line}");
        let leaf = fs::read_to_string(host.certificate()).unwrap();
        fs::write(host.certificate(), leaf + &host.ca.pem()).unwrap();
        psid.terminate();
        host.instance.forget_refusals();
        let _psid = host.instance.start();
        assert_eq!(host.lookup("A").text(), "1");
    }
}

#[test]
fn unusable_certificate_or_key_is_reported_and_not_sent() {
    let host = Host::new();
    let psid = host.instance.start();
    let (certificate, key_file) = (host.certificate(), host.key());
    let good = [&certificate, &key_file].map(|path| fs::read(path).unwrap());
    let fails = |words: &str| {
        let line = host.lookup("A").fails(75);
        assert!(line.contains(words), "{words}: {line}");
        assert!(!line.contains("canary"), "{line}");
    };
    fs::remove_file(&certificate).unwrap();
    fails(&format!("the certificate in {}: No such file", certificate.display()));
    fs::write(&certificate, "canary").unwrap();
    fails("is missing: the file holds no PEM certificate");
    fs::write(&certificate, &good[0]).unwrap();
    fs::remove_file(&key_file).unwrap();
    fails(&format!("the private key in {} cannot be read: No such file", key_file.display()));
    fs::write(&key_file, "canary").unwrap();
    fails("holds no private key in PEM");
    generate_ec_key(&key_file);
    fails(&format!("does not belong to the certificate in {}", certificate.display()));
    fs::write(&key_file, &good[1]).unwrap();
    let secret = ["-aes256", "-passout", "pass:canary", "-out", key_file.to_str().unwrap()];
    let plain = host.ca.path("plain.key");
    fs::write(&plain, &good[1]).unwrap();
    openssl(&[&["pkey", "-in", plain.to_str().unwrap()][..], &secret].concat());
    fails("has a passphrase");
    assert!(psid.degraded().contains("has a passphrase"), "{}", psid.degraded());
    assert_eq!(host.logins(), 0);
    fs::write(&key_file, &good[1]).unwrap();
    assert_eq!(host.lookup("A").text(), "1");
    assert_eq!(psid.degraded(), "");
}

#[test]
fn rate_limit_of_logins_is_waited_for() {
    let host = Host::new();
    host.infisical.fault_login(IDENTITY, &fault::too_many(600));
    for _ in 0..2 {
        let psid = host.instance.start();
        let line = host.lookup("A").fails(75);
        assert!(line.contains("429"), "{line}");
        psid.terminate();
    }
    assert_eq!(host.logins(), 1);
}

/// The login goes to its own URL, and a proxy there that wants another certificate is no outage of Infisical.
#[test]
fn handshake_refused_by_a_proxy_is_a_refused_login() {
    let host = Host::new();
    let (stranger, tls) = (Ca::new(), host.instance.directory().join("proxy.pem"));
    // A server certificate of the fake's authority is not at hand: the proxy has one of its own, which psid trusts.
    let own = Ca::new();
    let server_key = own.path("server.key");
    generate_ec_key(&server_key);
    own.certify_key(
        &server_key,
        Subject { extensions: "subjectAltName=IP:127.0.0.1\n", ..CLIENT },
        &tls,
    );
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let proxy = Command::new("openssl")
        .args(["s_server", "-quiet", "-accept", &port.to_string(), "-Verify", "1"])
        .args(["-verify_return_error", "-CAfile", &stranger.text("ca.pem"), "-key"])
        .arg(&server_key)
        .arg("-cert")
        .arg(&tls)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let proxy = Ended(proxy);
    eventually("the proxy to listen", || TcpStream::connect(("127.0.0.1", port)).ok());
    let mut config = Config::of(&host.infisical);
    // Both authorities are trusted: the fake's, and the proxy's.
    let roots = host.instance.directory().join("roots.pem");
    let both = [host.infisical.ca().unwrap(), &own.path("ca.pem")]
        .map(|path| fs::read_to_string(path).unwrap());
    fs::write(&roots, both.concat()).unwrap();
    let fake_ca = host.infisical.ca().unwrap().display().to_string();
    config.infisical = config.infisical.replace(&fake_ca, &roots.display().to_string());
    config.auth = format!(
        "method = \"tls-cert\"\nidentity_id = \"{IDENTITY}\"\ncertificate_file = \"{}\"\nkey_file = \"{}\"\n\
         login_url = \"https://127.0.0.1:{port}\"\n",
        host.certificate().display(),
        host.key().display()
    );
    host.instance.configure(&config);
    let psid = host.instance.start();
    for key in ["A", "B"] {
        let line = host.lookup(key).fails(75);
        let words =
            format!("127.0.0.1:{port} refuses the client certificate (TLS alert UnknownCA)");
        assert!(line.contains(&words), "{line}");
    }
    assert_eq!(psid.status()["providers"][0]["up"], true, "{}", psid.status());
    drop(proxy);
}

/// A process of this test.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Makes a key that only signs, and certifies it.
fn key_on(token: &Token, host: &Host, kind: &str) {
    let make = ["--keypairgen", "--key-type", kind, "--label", "infisical", "--id", "03"];
    token.user_tool(&[&make[..], &["--usage-sign"]].concat());
    let public = host.ca.path("public.der");
    let read = ["--read-object", "--type", "pubkey", "--id", "03", "--output-file"];
    token.user_tool(&[&read[..], &[public.to_str().unwrap()]].concat());
    host.ca.certify(&public, CLIENT, &host.certificate());
}

#[test]
fn key_on_a_token_signs_each_login() {
    for (token, kind, name) in [
        (Token::softhsm(), "rsa:2048", "key_label = \"infisical\"\n"),
        (Token::softhsm(), "EC:prime256v1", "key_id = \"03\"\n"),
        (Token::kryoptic(), "EC:prime256v1", "key_label = \"infisical\"\n"),
        (Token::kryoptic(), "rsa:2048", "key_label = \"infisical\"\n"),
    ] {
        let host = Host::new();
        key_on(&token, &host, kind);
        host.configure(name, &token.config());
        let psid = token.on(host.instance.psid()).start();
        assert_eq!(host.lookup("A").text(), "1", "{kind}");
        assert_eq!(token.calls("C_SignInit"), 1, "{kind}");
        host.infisical.advance(2_592_000 + 1);
        assert_eq!(host.lookup("B").text(), "2", "{kind}");
        assert_eq!((token.calls("C_SignInit"), token.calls("C_Login")), (2, 1), "{kind}");
        assert_eq!(psid.degraded(), "");
    }
}

/// The token is away, its PIN is wrong, or it has no such key: no login, and what is cached is served.
#[test]
fn token_that_does_not_sign_is_no_outage() {
    let (host, token) = (Host::new(), Token::softhsm());
    key_on(&token, &host, "EC:prime256v1");
    host.configure("key_label = \"infisical\"\n", &token.config());
    let mut psid = token.on(host.instance.psid()).start();
    host.instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    assert_eq!(host.instance.driver(&["lookup"]).id(id(1)).text(), "1");
    host.infisical.advance(2_592_000 + 1);
    token.pull_out();
    let line = host.lookup("B").fails(75);
    assert!(line.contains("there is no credential to log in with as tls-cert identity"), "{line}");
    assert!(line.contains("plug"), "{line}");
    assert_eq!(host.instance.driver(&["lookup"]).id(id(1)).text(), "1");
    assert_eq!(psid.status()["providers"][0]["up"], true, "{}", psid.status());
    token.put_back();
    assert_eq!(host.lookup("B").text(), "2");
    host.configure("key_label = \"other\"\n", &token.config());
    psid.reload();
    let line = host.lookup("C").fails(75);
    assert!(line.contains("the token has no private key with the label 'other'"), "{line}");
    assert_eq!(host.logins(), 2);
}
