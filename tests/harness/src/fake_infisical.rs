//! The fake of Infisical, and the calls of its control port.
//!
//! Faults of one directory, key, route or identity, rate limits, delayed permissions, deleted
//! identities and others are in [`super::knobs`]: `fault_directory`, `fault_listing`,
//! `fault_login`, `fault_identity`, `lose_route_once`, `limit`, `cache_permissions`,
//! `end_membership`, `delete_identity`, `put_identity`, `change_client_secret`, `import`; the
//! faults themselves in `knobs::fault`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::process::Process;
use super::programs::program;

/// The kinds of fault whose answer is not Infisical's and takes no time.
pub const BROKEN_ANSWERS: [&str; 12] = [
    "reset",
    "reset-mid-body",
    "truncate",
    "database-error",
    "html-502",
    "html-503",
    "html-404",
    "html-403-waf",
    "captive-portal",
    "gzip",
    "garbage-json",
    "wrong-shape",
];
/// The project's id at the fake.
pub const PROJECT: &str = "6f2d1b0e-0000-4000-8000-00000000000a";
/// The identity's id at the fake.
pub const IDENTITY: &str = "6f2d1b0e-0000-4000-8000-00000000000b";
/// The secret of the identity `client`.
pub const CLIENT_SECRET: &str = "the-client-secret-of-the-identity";

/// A running fake with a project of its own.
pub struct FakeInfisical {
    process: Process,
    /// Its seed and certificates.
    directory: TempDir,
    url: String,
    metadata: String,
    control: String,
    ca: Option<PathBuf>,
    args: Vec<String>,
}

/// A request in the fake's log.
#[derive(Debug)]
pub struct Request(pub Value);

impl FakeInfisical {
    /// A fake whose `prod` has these directories: path, then key, then value.
    pub fn with(secrets: &Value) -> Self {
        Self::launch(&seed(secrets), &[])
    }

    /// The same with options of fake-infisical.
    pub fn with_options(secrets: &Value, options: &[&str]) -> Self {
        Self::launch(&seed(secrets), options)
    }

    /// A fake with this seed; [`seed`] makes the usual one.
    pub fn launch(seed: &Value, options: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("seed.json"), seed.to_string()).unwrap();
        let mut args: Vec<String> = options.iter().map(ToString::to_string).collect();
        args.extend(["--seed".into(), directory.path().join("seed.json").display().to_string()]);
        if options.contains(&"--tls") {
            // The certificate is valid for this address only.
            args.extend(["--listen".into(), "127.0.0.1:0".into()]);
            args.extend(["--tls-dir".into(), directory.path().join("tls").display().to_string()]);
        } else {
            args.extend(["--listen".into(), format!("{}:0", own_address())]);
        }
        args.extend(["--metadata".into(), format!("{}:0", own_address())]);
        let (process, announced) = start(&args);
        let text = |key: &str| announced[key].as_str().map(str::to_owned);
        Self {
            process,
            directory,
            url: text("url").unwrap(),
            metadata: text("metadata").unwrap(),
            control: text("control").unwrap(),
            ca: text("ca").map(PathBuf::from),
            args,
        }
    }

    /// The `api_url` of the fake.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The `metadata_url` of the fake, for each cloud.
    pub fn metadata(&self) -> &str {
        &self.metadata
    }

    /// The authority to trust, for a fake with TLS.
    pub fn ca(&self) -> Option<&PathBuf> {
        self.ca.as_ref()
    }

    /// Ends it: connections are refused from now on.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts another fake at the same address, with its seed and an empty log.
    pub fn restart(&mut self) {
        self.kill();
        for (option, url) in [("--listen", &self.url), ("--metadata", &self.metadata)] {
            let at = self.args.iter().position(|arg| arg == option).unwrap();
            self.args[at + 1] = url.split_once("://").unwrap().1.to_owned();
        }
        let (process, announced) = start(&self.args);
        self.process = process;
        self.control = announced["control"].as_str().unwrap().to_owned();
    }

    /// The same with a certificate of this kind from the same authority.
    pub fn restart_with_certificate(&mut self, kind: &str) {
        let at = self.args.iter().position(|arg| arg == "--tls").unwrap();
        kind.clone_into(&mut self.args[at + 1]);
        self.restart();
    }

    /// The next restart begins with the present state.
    pub fn keep_state(&self) {
        let state = self.control("GET", "/state", &Value::Null);
        std::fs::write(self.directory.path().join("seed.json"), state.to_string()).unwrap();
    }

    /// Sends it a signal: after SIGSTOP the kernel accepts connections, and the fake never answers.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Every request so far.
    pub fn log(&self) -> Vec<Request> {
        let Value::Array(entries) = self.control("GET", "/log", &Value::Null) else {
            panic!("the log is no list");
        };
        entries.into_iter().map(Request).collect()
    }

    /// The number of requests with this method and path prefix.
    pub fn count(&self, method: &str, path: &str) -> u64 {
        self.await_count(method, path, 0)
    }

    /// The number of logins by universal-auth.
    pub fn logins(&self) -> u64 {
        self.logins_by("universal-auth")
    }

    /// The number of logins by a method, such as `aws-auth`, by the route's name.
    pub fn logins_by(&self, method: &str) -> u64 {
        self.count("POST", &format!("/api/v1/auth/{method}/login"))
    }

    /// The number of reads of a secret or a directory.
    pub fn reads(&self) -> u64 {
        self.count("GET", "/api/v3/secrets") + self.count("GET", "/api/v4/secrets")
    }

    /// Waits for at least this number of requests.
    #[track_caller]
    pub fn await_count(&self, method: &str, path: &str, at_least: u64) -> u64 {
        let target =
            format!("/log/count?method={method}&path={path}&atLeast={at_least}&timeoutMs=30000");
        let count = self.control("GET", &target, &Value::Null)["count"].as_u64().unwrap();
        assert!(count >= at_least, "{count} requests {method} {path}, waited for {at_least}");
        count
    }

    /// Clears the log.
    pub fn clear_log(&self) {
        self.control("DELETE", "/log", &Value::Null);
    }

    /// Applies this fault to every request from now on.
    pub fn fault(&self, fault: &Value) {
        self.faults(&json!([{"fault": fault}]));
    }

    /// Replaces the rules.
    pub fn faults(&self, rules: &Value) {
        self.control("PUT", "/faults", rules);
    }

    /// Ends all faults.
    pub fn heal(&self) {
        self.control("DELETE", "/faults", &Value::Null);
    }

    /// Changes settings.
    pub fn settings(&self, changes: &Value) {
        self.control("PATCH", "/settings", changes);
    }

    /// Advances the fake's clock, by which its tokens expire.
    pub fn advance(&self, seconds: u64) {
        self.control("POST", "/clock", &json!({"advanceSeconds": seconds}));
    }

    /// Changes the cloud; `{"aws": {"role": null}}`.
    pub fn cloud(&self, changes: &Value) {
        self.control("PATCH", "/cloud", changes);
    }

    /// A token of the cluster's service account `default:psid`, with these changes.
    pub fn kubernetes_token(&self, order: &Value) -> String {
        let mut whole = json!({"namespace": "default", "name": "psid"});
        whole.as_object_mut().unwrap().extend(order.as_object().unwrap().clone());
        let answer = self.control("POST", "/kubernetes/token", &whole);
        answer["token"].as_str().unwrap().to_owned()
    }

    /// A token of an issuer for `spiffe://example.org/psid`, with more to its order; claims are added.
    pub fn issuer_token(&self, issuer: &str, order: &Value) -> String {
        let mut claims = json!({
            "iss": "https://issuer.example", "sub": "spiffe://example.org/psid", "aud": ["infisical"],
        });
        let mut whole = order.clone();
        if let Some(more) = order["claims"].as_object() {
            claims.as_object_mut().unwrap().extend(more.clone());
        }
        whole["issuer"] = issuer.into();
        whole["claims"] = claims;
        let answer = self.control("POST", "/issuer/token", &whole);
        answer["token"].as_str().unwrap().to_owned()
    }

    /// A static access token of the identity.
    pub fn access_token(&self) -> String {
        let answer = self.control("POST", "/access-token", &json!({"identity": IDENTITY}));
        answer["token"].as_str().unwrap().to_owned()
    }

    /// Ends one access token.
    pub fn revoke_token(&self, token: &str) {
        self.control("POST", "/revoke", &json!({"token": token}));
    }

    /// Sets a secret without the API.
    pub fn put(&self, path: &str, key: &str, value: &str) {
        let body = json!({"project": PROJECT, "environment": "prod", "path": path, "key": key, "value": value});
        self.control("PUT", "/secret", &body);
    }

    /// Removes a secret without the API.
    pub fn remove(&self, path: &str, key: &str) {
        let body = json!({"project": PROJECT, "environment": "prod", "path": path, "key": key});
        self.control("DELETE", "/secret", &body);
    }

    /// Sets the identity's permissions in the project; `null` is everything.
    pub fn permit(&self, rules: &Value) {
        let body = json!({"project": PROJECT, "identity": IDENTITY, "rules": rules});
        self.control("PUT", "/permission", &body);
    }

    /// A call of the control port.
    #[track_caller]
    pub fn control(&self, method: &str, target: &str, body: &Value) -> Value {
        let address = self.control.split_once("://").unwrap().1;
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut stream = TcpStream::connect(address).unwrap();
        write!(
            stream,
            "{method} {target} HTTP/1.1\r\nhost: infisical\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{method} {target}: {answer}");
        serde_json::from_str(body).unwrap()
    }
}

impl Drop for FakeInfisical {
    fn drop(&mut self) {
        if !self.process.has_ended_within(std::time::Duration::ZERO) {
            self.process.signal(Signal::SIGKILL);
        }
    }
}

impl Request {
    /// A member of the log entry as text; empty if it is absent.
    pub fn text(&self, member: &str) -> &str {
        self.0[member].as_str().unwrap_or_default()
    }

    /// A header; empty if it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.0["headers"][name].as_str().unwrap_or_default()
    }

    /// Whether it reads secrets.
    pub fn is_read(&self) -> bool {
        self.text("method") == "GET" && self.text("path").contains("/secrets")
    }
}

/// A seed with one identity, one project and these directories of `prod`.
pub fn seed(secrets: &Value) -> Value {
    json!({
        "identities": [{
            "id": IDENTITY, "name": "host", "clientId": "client",
            "clientSecrets": [{"id": "s-1", "secret": CLIENT_SECRET}],
        }],
        "projects": [{
            "id": PROJECT, "slug": "my-project", "environments": ["prod"],
            "secrets": {"prod": secrets},
        }],
    })
}

fn start(args: &[String]) -> (Process, Value) {
    let mut command = Command::new(program("fake-infisical"));
    command.args(args).stdout(Stdio::piped());
    let mut process = Process::start(command);
    let stdout = process.child().stdout.take().unwrap();
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    let announced = serde_json::from_str(&line)
        .unwrap_or_else(|error| panic!("fake-infisical: {error}: {line}{}", process.stderr()));
    (process, announced)
}

/// A loopback address of this fake only: a restarted fake finds its port free, whatever port the
/// kernel gave to others meanwhile.
fn own_address() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let process = std::process::id();
    format!("127.{}.{}.{}", 1 + process % 200, 1 + number / 200 % 200, 1 + number % 200)
}
