//! Each login method in each situation: what is cached is served, nothing is evicted, and one sentence with one exit
//! status says what is wrong.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use psi_harness::ca::{CLIENT, Ca, Subject};
use psi_harness::machine::{
    ALL, AWS, AZURE, GCP, JWT, KUBERNETES, Machine, Method, OIDC, SPIFFE, TLS_CERT, TOKEN,
    UNIVERSAL,
};
use psi_harness::{CLIENT_SECRET, Clock, IDENTITY, Token, id, identity, reference};

/// A method; the key of its certificate may be on a token.
#[derive(Clone, Copy, Debug)]
struct Login {
    method: Method,
    is_on_token: bool,
}

/// What a row expects after a restart.
struct Row {
    login: Login,
    /// The sentence of a lookup that is not cached; none if it is answered.
    lookup: Option<&'static str>,
    /// The exit status of `psictl login`, and its sentence.
    check: (i32, &'static str),
}

const ON_TOKEN: Login = Login { method: TLS_CERT, is_on_token: true };

impl From<Method> for Login {
    fn from(method: Method) -> Self {
        Self { method, is_on_token: false }
    }
}

fn every_login() -> Vec<Login> {
    ALL.map(Login::from).into_iter().chain([ON_TOKEN]).collect()
}

fn row(login: impl Into<Login>, lookup: &'static str, check: (i32, &'static str)) -> Row {
    Row { login: login.into(), lookup: Some(lookup), check }
}

fn secrets() -> Value {
    json!({"/myapp": {"KNOWN": "1", "UNKNOWN": "2"}})
}

/// Each row with a fake and a psid of its own, at once: most of the time is waiting.
fn check_all(rows: &[Row], break_it: impl Fn(&mut Machine) + Sync) {
    thread::scope(|scope| {
        for row in rows {
            let name = format!("{:?}", row.login);
            let break_it = &break_it;
            thread::Builder::new()
                .name(name)
                .spawn_scoped(scope, move || check(row, break_it))
                .unwrap();
        }
    });
}

/// A machine that has cached one secret, and whose psid has ended.
fn machine_with_a_cache(login: Login) -> Machine {
    let machine = match login {
        Login { is_on_token: true, .. } => Machine::on_token(Token::kryoptic(), &secrets()),
        Login { method, .. } => Machine::of(method, &secrets()),
    };
    let psid = machine.psid().start();
    machine.instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "KNOWN")).ok();
    assert_eq!(machine.instance.driver(&["lookup"]).id(id(1)).text(), "1");
    psid.await_generation_after(0);
    psid.terminate();
    machine
}

fn check(row: &Row, break_it: impl Fn(&mut Machine)) {
    let mut machine = machine_with_a_cache(row.login);
    break_it(&mut machine);
    let (psid, login) = (machine.psid().start(), &row.login);
    expect(row, &machine);
    if row.check.0 == 65 {
        assert!(psid.degraded().contains(row.lookup.unwrap()), "{login:?}: {}", psid.degraded());
        assert_eq!(psid.status()["providers"][0]["up"], true, "{login:?}");
    }
}

/// What lookups and `psictl login` answer.
fn expect(row: &Row, machine: &Machine) {
    let Row { login, lookup, check: (code, sentence) } = row;
    let known = || machine.instance.driver(&["lookup"]).id(id(1)).text();
    assert_eq!(known(), "1", "{login:?}");
    let unknown = machine.instance.driver(&["get", &reference("/myapp", "UNKNOWN")]);
    match lookup {
        None => assert_eq!(unknown.text(), "2", "{login:?}"),
        Some(words) => {
            let line = unknown.fails(75);
            assert!(line.contains(words), "{login:?}: {line}");
        }
    }
    let checked = machine.instance.driver(&["login"]).run();
    assert_eq!(checked.code, *code, "{login:?}: {}{}", checked.stdout_text(), checked.stderr);
    let said = if *code == 0 { checked.stdout_text() } else { checked.stderr };
    assert!(said.contains(sentence), "{login:?}: {said}");
    assert_eq!(known(), "1", "{login:?}");
}

/// A reboot while neither Infisical nor a metadata service answers.
#[test]
fn reboot_in_an_outage_serves_what_is_cached() {
    let rows: Vec<Row> = every_login()
        .into_iter()
        .map(|login| row(login, "no connection to", (75, "check api_url in [providers.infisical]")))
        .collect();
    check_all(&rows, |machine| machine.infisical.kill());
}

/// Infisical does not know the method, the token or the certificate's CA.
#[test]
fn refused_login_serves_what_is_cached_and_is_to_be_corrected() {
    let no_method = |method| row(method, "method not found for identity", (65, "add --retry"));
    let rows = [
        row(UNIVERSAL, "Invalid credentials", (65, "the client id or the client secret is wrong")),
        no_method(AWS),
        no_method(GCP),
        no_method(AZURE),
        no_method(KUBERNETES),
        no_method(JWT),
        no_method(OIDC),
        no_method(SPIFFE),
        row(TOKEN, "token has been revoked", (65, "make another token for the identity")),
        row(TLS_CERT, "Certificate not issued by the provided CA", (65, "the CA that issued")),
        row(ON_TOKEN, "Certificate not issued by the provided CA", (65, "the CA that issued")),
    ];
    check_all(&rows, |machine| match machine.method {
        UNIVERSAL => machine.infisical.change_client_secret("another"),
        TOKEN => {
            let token = std::fs::read_to_string(machine.token_file()).unwrap();
            machine.infisical.revoke_token(&token);
        }
        TLS_CERT => {
            machine.ca = Some(Ca::new());
            certify(machine, CLIENT);
        }
        _ => machine.infisical.put_identity(&identity(IDENTITY, "client", CLIENT_SECRET)),
    });
}

/// The clouds make another proof for each login, which cannot have expired.
#[test]
fn expired_credential_serves_what_is_cached_and_is_named() {
    let by_clock = |login| {
        let what = "by this host's clock, the credential has expired";
        Row { login, lookup: Some(what), check: (65, what) }
    };
    let rows = [
        row(UNIVERSAL, "expired client secret", (65, "the client secret has expired")),
        by_clock(KUBERNETES.into()),
        by_clock(JWT.into()),
        by_clock(OIDC.into()),
        by_clock(SPIFFE.into()),
        row(TOKEN, "Your token has expired", (65, "make another token for the identity")),
        by_clock(TLS_CERT.into()),
        by_clock(ON_TOKEN),
    ];
    check_all(&rows, |machine| match machine.method {
        UNIVERSAL => {
            let mut changed = identity(IDENTITY, "client", CLIENT_SECRET);
            changed["clientSecrets"][0]["expired"] = true.into();
            machine.infisical.put_identity(&changed);
        }
        TOKEN => machine.infisical.advance(2_592_000 + 1),
        TLS_CERT => certify(machine, Subject { days: -1, ..CLIENT }),
        _ => {
            machine.give_token(&json!({"lifetimeSeconds": -1}));
        }
    });
}

fn certify(machine: &Machine, subject: Subject<'_>) {
    match &machine.token {
        Some(_) => machine.certify_token_key(subject),
        None => {
            let ca = machine.ca.as_ref().unwrap();
            ca.certify_key(&machine.key_file(), subject, &machine.certificate_file());
        }
    }
}

/// This host's clock is 20 minutes fast. Only a signature for AWS has this host's time in it.
#[test]
fn fast_clock_serves_what_is_cached_and_is_reported() {
    // The test's clock stands still meanwhile.
    let ahead = " s ahead of its clock";
    let of_aws = "check this host's clock and its role";
    let rows = every_login().into_iter().map(|login| match login.method {
        AWS => row(login, of_aws, (75, of_aws)),
        _ => Row { login, lookup: None, check: (0, ahead) },
    });
    let rows: Vec<Row> = rows.collect();
    thread::scope(|scope| {
        for row in &rows {
            scope.spawn(move || {
                let machine = machine_with_a_cache(row.login);
                let clock = Clock::of(&machine.instance);
                clock.advance(Duration::from_secs(1_200));
                let _psid = clock.on(machine.psid()).start();
                expect(row, &machine);
            });
        }
    });
}
