//! The official Python and Node SDKs work with the fake as with the server.
//!
//! Fails if the SDKs cannot be installed: the test is never skipped.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

const PROJECT: &str = "6f2d1b0e-0000-4000-8000-00000000000a";
const CLOSED: &str = "6f2d1b0e-0000-4000-8000-00000000000d";

#[test]
fn official_sdks_work_unchanged() {
    let directory = tempfile::tempdir().unwrap();
    let seed = directory.path().join("seed.json");
    std::fs::write(&seed, state().to_string()).unwrap();
    let (fake, url) = start(&seed);

    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk/run.sh");
    let output = Command::new(sdk)
        .arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("infisical-sdks"))
        .env("INFISICAL_URL", url)
        .env("INFISICAL_CLIENT_ID", "client")
        .env("INFISICAL_CLIENT_SECRET", "hunter2")
        .env("INFISICAL_PROJECT_ID", PROJECT)
        .env("INFISICAL_CLOSED_PROJECT_ID", CLOSED)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    drop(fake);

    assert!(output.status.success(), "run.sh: {}", output.status);
    let printed = String::from_utf8(output.stdout).unwrap();
    let printed: Vec<Value> =
        printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(printed, [python(), node()]);
}

/// Killed when dropped, also by a failing assertion.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn start(seed: &Path) -> (Running, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_fake-infisical"))
        .arg("--seed")
        .arg(seed)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let stdout = child.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    let announced: Value = serde_json::from_str(&line).unwrap();
    let url = announced["url"].as_str().unwrap().to_owned();
    (Running(child), url)
}

fn state() -> Value {
    let import = |into: &str, from: &str| {
        json!({"environment": "prod", "path": into,
               "from": {"environment": "prod", "path": from}})
    };
    json!({
        "identities": [{
            "name": "ci", "clientId": "client", "clientSecrets": [{"secret": "hunter2"}],
        }],
        "projects": [
            {
                "id": PROJECT,
                "secrets": {"prod": {
                    "/myapp": {"DB_HOST": "db", "URL": "${DB_HOST}:${prod.shared.PORT}"},
                    "/myapp/deep": {"DEEP": "d"},
                    "/other": {"PORT": "1"},
                    "/shared": {"PORT": "2"},
                }},
                "imports": [import("/myapp", "/other"), import("/myapp", "/shared")],
            },
            {"id": CLOSED, "slug": "closed", "members": {}},
        ],
    })
}

fn python() -> Value {
    json!({
        "login": {"expiresIn": 2_592_000, "tokenType": "Bearer"},
        "list": {"DB_HOST": "db", "URL": "db:2", "PORT": "2"},
        "recursive": [["/myapp", "DB_HOST"], ["/myapp", "URL"], ["/myapp/deep", "DEEP"]],
        "get": "db",
        "imported": ["/shared", "2"],
        "created": ["one\n", 1],
        "updated": ["two", 2],
        "deleted": ["two", 2],
        "folder": ["python", "/myapp/python"],
        "folders": ["deep", "python"],
        "bad_secret": {
            "class": "APIError", "status": 401, "error": "UnauthorizedError",
            "message": "Invalid credentials",
        },
        "closed": {
            "class": "APIError", "status": 403, "error": "ProjectMembershipNotFound",
            "message": not_a_member(),
        },
        "unknown": {
            "class": "APIError", "status": 404, "error": "NotFound",
            "message": "Secret with name 'NOPE' not found",
        },
    })
}

fn node() -> Value {
    let refused = |method: &str, status: u16, message: &str| {
        json!({
            "class": "InfisicalSDKRequestError",
            "message": format!("[Method={method}] [StatusCode={status}] {message}"),
        })
    };
    json!({
        "list": {"DB_HOST": "db", "URL": "db:2"},
        "imports": [["/other", {"PORT": "1"}], ["/shared", {"PORT": "2"}]],
        "merged": {"DB_HOST": "db", "URL": "db:2", "PORT": "1"},
        "recursive": [["/myapp", "DB_HOST"], ["/myapp", "URL"], ["/myapp/deep", "DEEP"]],
        "get": "db",
        "imported": refused("GET", 404, "Secret with name 'PORT' not found"),
        "created": ["one\n", 1],
        "updated": ["two", 2],
        "deleted": ["two", 2],
        "folder": "node",
        "folders": ["deep", "node", "python"],
        "renewed": "db",
        "bad_secret": refused("POST", 401, "Invalid credentials"),
        "closed": refused("GET", 403, &not_a_member()),
        "unknown": refused("GET", 404, "Secret with name 'NOPE' not found"),
    })
}

fn not_a_member() -> String {
    format!(
        "You are not a member of this project with ID {CLOSED}. Please assign this identity to \
         the project with the appropriate permissions, then try again."
    )
}
