//! Each login method, by flags and by questions.

use std::fs;

use serde_json::json;

use psi_harness::ca::{CLIENT, Ca, generate_ec_key};
use psi_harness::{
    FakeInfisical, IDENTITY, PIN, PROJECT, TerminalSession, Token, assert_in_order,
    directory_holds, seed,
};

use super::by_flags::{token_of_psi, with_exports};
use super::staged_host::{StagedHost, With, about, secrets};

/// The flags of each method, what they write, and the flags that are missing without them.
#[test]
fn each_method_has_its_flags_and_writes_its_keys() {
    let host = StagedHost::new();
    let project = format!("p={PROJECT}:prod");
    let init = ["psictl", "init", "--yes", "--dry-run", "--project", &project, "--method"];
    let identity = ["identity_id = \"i\""];
    let token_file = ["identity_id = \"i\"", "token_file = \"/run/t\""];
    let (i, file) = (["--identity-id", "i"], ["--token-file", "/run/t"]);
    let certificate = ["--certificate-file", "/etc/psi/c.pem"];
    let rows: [(&str, Vec<&str>, &[&str], &str); 12] = [
        (
            "universal-auth",
            vec!["--client-id", "c", "--client-secret-file", "-"],
            &["seal the client secret", "client_id = \"c\"", "client_secret_credential = "],
            "--client-id is missing",
        ),
        ("aws-iam", i.to_vec(), &identity, "--identity-id is missing"),
        ("gcp", i.to_vec(), &identity, "--identity-id is missing"),
        ("azure", i.to_vec(), &identity, "--identity-id is missing"),
        (
            "azure",
            [i, ["--client-id", "c"]].concat(),
            &["identity_id = \"i\"", "client_id = \"c\""],
            "--identity-id is missing",
        ),
        ("kubernetes", i.to_vec(), &identity, "--identity-id is missing"),
        ("jwt", [i, file].concat(), &token_file, "--identity-id, --token-file are missing"),
        ("oidc", [i, file].concat(), &token_file, "--identity-id, --token-file are missing"),
        ("spiffe", [i, file].concat(), &token_file, "--identity-id, --token-file are missing"),
        (
            "token",
            vec!["--access-token-file", "-"],
            &["seal infisical-token to", "token_credential = \"infisical-token\""],
            "--access-token-file is missing",
        ),
        (
            "tls-cert",
            [&i[..], &certificate, &["--private-key-file", "-", "--login-url", "https://h:8443"]]
                .concat(),
            &[
                "seal infisical-client-key to",
                "identity_id = \"i\"",
                "certificate_file = \"/etc/psi/c.pem\"",
                "key_credential = \"infisical-client-key\"",
                "login_url = \"https://h:8443\"",
            ],
            "--identity-id, --certificate-file are missing",
        ),
        (
            "tls-cert",
            [
                &i[..],
                &certificate,
                &[
                    "--private-key-label",
                    "k",
                    "--pkcs11-module",
                    "/m.so",
                    "--token-label",
                    "psi",
                    "--pin-file",
                    "-",
                ],
            ]
            .concat(),
            &[
                "seal hsm-pin to",
                "key_label = \"k\"",
                "[providers.pkcs11]",
                "pkcs11_module = \"/m.so\"",
            ],
            "--identity-id, --certificate-file are missing",
        ),
    ];
    let before = host.files();
    for (method, flags, lines, missing) in rows {
        let all = [&init[..], &[method], &flags].concat();
        let outcome = host.run(&all, "the-secret");
        let text = outcome.stdout_text();
        assert_eq!(outcome.code, 0, "{flags:?}: {}", outcome.stderr);
        let named = format!("method = \"{method}\"");
        for line in [&[named.as_str()], lines].concat() {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(!text.contains("the-secret"), "{text}");
        let outcome = host.run(&[&init[..], &[method]].concat(), "");
        assert_eq!(outcome.code, 2, "{method}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(missing), "{method}: {}", outcome.stderr);
    }
    assert_eq!((host.files(), host.logins()), (before, 0));
}

#[test]
fn wrong_flag_is_refused_before_a_question() {
    let host = StagedHost::new();
    for (flags, code, words) in [
        (
            &["--method", "gcp", "--client-id", "c"][..],
            2,
            "--client-id is a flag of universal-auth, azure, and the login method is gcp",
        ),
        (
            &["--method", "tls-cert", "--certificate-file", "c.pem"],
            65,
            "--certificate-file: it is no absolute path",
        ),
        (&["--method", "oidc", "--token-file", "t"], 65, "--token-file: it is no absolute path"),
        (&["--identity-id", "a b"], 65, "--identity-id: it contains a blank"),
        (&["--private-key-file", "-", "--pin-file", "-"], 2, "all name stdin"),
    ] {
        let command = host.command(&[&["psictl", "init"], flags].concat());
        let (ended, screen) = TerminalSession::start(command).finish();
        assert_eq!(ended, code, "{screen}");
        assert!(screen.contains(words) && !screen.contains("Infisical's URL"), "{screen}");
    }
}

/// An Infisical behind TLS that knows the CA of a certificate, which is in /etc/psi of a host.
struct Certified {
    host: StagedHost,
    ca: Ca,
    key: String,
}

impl Certified {
    fn new() -> Self {
        let ca = Ca::new();
        let mut seed = seed(&secrets());
        seed["identities"][0]["methods"] = json!({"tlsCert": {"caCertificate": ca.pem()}});
        let host = StagedHost::of(FakeInfisical::launch(&seed, &["--tls", "valid"]), With::Tpm);
        generate_ec_key(&ca.path("client.key"));
        ca.certify_key(&ca.path("client.key"), CLIENT, &ca.path("client.pem"));
        let key = fs::read_to_string(ca.path("client.key")).unwrap();
        let certified = Self { host, ca, key };
        certified.install_certificate();
        let server = fs::read_to_string(certified.host.infisical.ca().unwrap()).unwrap();
        let server = certified.host.file("ca", &server);
        certified.host.sh(&format!("install -m 0644 {} /etc/psi/ca.pem", server.display()));
        certified
    }

    fn install_certificate(&self) {
        let pem = fs::read_to_string(self.ca.path("client.pem")).unwrap();
        let pem = self.host.file("client", &pem);
        self.host.sh(&format!("install -m 0644 {} /etc/psi/client.pem", pem.display()));
    }

    fn flags(&self) -> Vec<String> {
        let project = format!("myproject={PROJECT}:prod");
        [
            "psictl",
            "init",
            "--yes",
            "--api-url",
            self.host.infisical.url(),
            "--ca-cert",
            "/etc/psi/ca.pem",
            "--method",
            "tls-cert",
            "--identity-id",
            IDENTITY,
            "--certificate-file",
            "/etc/psi/client.pem",
            "--project",
            &project,
            "--workload",
            "myapp=myproject:/myapp",
            "--no-recovery-key",
        ]
        .map(str::to_owned)
        .to_vec()
    }
}

#[test]
fn certificate_with_a_sealed_key_leads_to_a_served_secret() {
    let certified = Certified::new();
    let host = &certified.host;
    let key = host.file("key", &certified.key);
    let (report, _) =
        host.init_ends(0, &certified.flags(), &["--private-key-file", key.to_str().unwrap()]);
    assert_in_order(
        &report,
        &["log in to ", "(tls-cert, identity ", "seal infisical-client-key to"],
    );
    assert!(report.contains("the certificate in /etc/psi/client.pem expires in "), "{report}");
    assert_eq!(about(host, "/etc/psi/infisical-client-key.cred"), "root:root 644");
    assert_eq!(host.sh("psi-driver get myapp--TOKEN"), "t0ken");
    let line = certified.key.lines().nth(1).unwrap();
    let places = "/etc/psi /var/lib/psi /run/psi /run/psid /run/stage";
    assert_eq!(host.sh(&format!("grep -rlF -e {line} {places} || true")), "");
}

#[test]
fn certificate_with_a_key_on_the_token_leads_to_a_served_secret() {
    let certified = Certified::new();
    let host = &certified.host;
    let (token, exports) = token_of_psi(host);
    let make = ["--keypairgen", "--key-type", "EC:prime256v1", "--label", "login", "--id", "03"];
    token.user_tool(&[&make[..], &["--usage-sign"]].concat());
    let public = certified.ca.path("public.der");
    let read = ["--read-object", "--type", "pubkey", "--id", "03", "--output-file"];
    token.user_tool(&[&read[..], &[public.to_str().unwrap()]].concat());
    host.sh(&format!("chown -R psi:psi {}", token.directory().display()));
    certified.ca.certify(&public, CLIENT, &certified.ca.path("client.pem"));
    certified.install_certificate();
    let pin = host.file("pin", PIN);
    let flags = with_exports(&exports, certified.flags());
    let module = Token::kryoptic_module().display().to_string();
    let more = [
        "--private-key-label",
        "login",
        "--pkcs11-module",
        &module,
        "--token-label",
        "psi",
        "--pin-file",
        pin.to_str().unwrap(),
    ];
    let (report, _) = host.init_ends(0, &flags, &more);
    assert_in_order(
        &report,
        &["(tls-cert, identity ", "seal hsm-pin to", "seal it to this host's TPM"],
    );
    assert_eq!(host.sh("psi-driver get myapp--TOKEN"), "t0ken");
    assert_eq!(directory_holds(token.directory(), b"t0ken"), None);
}

#[test]
fn dialog_asks_for_the_certificate_and_its_key() {
    let certified = Certified::new();
    let host = &certified.host;
    let key = host.file("key", &certified.key);
    let args = ["psictl", "init", "--no-recovery-key", "--ca-cert", "/etc/psi/ca.pem"];
    let mut terminal = TerminalSession::start(host.command(&args));
    terminal.answer("Infisical's URL [https://app.infisical.com]: ", host.infisical.url());
    terminal.answer("Login method (universal-auth, ", "tls-cert");
    terminal.answer("ID of the machine identity: ", IDENTITY);
    terminal.answer("File of the client certificate in PEM: ", "client.pem");
    terminal.expect("it is no absolute path");
    terminal.answer("File of the client certificate in PEM: ", "/etc/psi/client.pem");
    terminal.answer("Label of the private key on the PKCS#11 token (empty: ", "");
    terminal.answer("Project ID ", PROJECT);
    terminal.answer("Environment's slug [prod]: ", "");
    terminal.answer("Name of the project in psi's config [myproject]: ", "");
    terminal.answer("Name of a container's unit", "myapp");
    terminal.answer("Directory of its secrets at Infisical [/myapp]: ", "");
    terminal.answer(
        "File of the certificate's private key in PEM, which is sealed: ",
        key.to_str().unwrap(),
    );
    terminal.answer("Continue? [Y/n]: ", "");
    let (code, screen) = terminal.finish();
    assert_eq!(code, 0, "{screen}\n{}", host.logs());
    assert_eq!(host.sh("psi-driver get myapp--TOKEN"), "t0ken");
}
