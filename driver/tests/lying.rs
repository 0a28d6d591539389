//! A psid that was taken over: it speaks the protocol, and puts into each text what a terminal, a unit or a
//! shell would take for an order. No byte of that is printed, executed or written.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test ends at the first surprise")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use psi_proto::Message;
use psi_proto::v1::{
    HsmStatusResponse, HsmToken, ListResponse, LookupResponse, PlanEvent, PlannedSecret,
    PlannedWorkload, RefreshEvent, Registration, RestorableResponse, RestorableSecret,
    SealResponse, StatusResponse, plan_event,
};

const ID: &str = "0123456789abcdef012345678";
/// Orders to a terminal (by C0 and by C1), a line of a unit, a line that seems to be psi-driver's, a change of
/// direction, a command of a shell, another directory.
const ORDERS: [&str; 8] = [
    "a\u{1b}]0;owned\u{7}",
    "a\u{9b}2J",
    "a\n[Service]\nExecStartPre=/bin/id",
    "a\r\npsi-driver: all is well",
    "a\u{202e}b",
    "a'; id >/tmp/owned; '",
    "../../../../etc/cron.d/a",
    "LD_PRELOAD",
];

/// What psid answers to a method, with `text` wherever a text can be.
fn answers(method: &str, text: &str) -> Vec<Vec<u8>> {
    let text = text.to_owned();
    let one = |message: &dyn Fn() -> Vec<u8>| vec![message()];
    match method {
        "Lookup" => one(&|| LookupResponse { value: b"value".to_vec().into() }.encode_to_vec()),
        "List" => one(&|| ListResponse { ids: vec![ID.into(), text.clone()] }.encode_to_vec()),
        "Restorable" => one(&|| {
            let secret = RestorableSecret {
                id: ID.into(),
                name: text.clone(),
                about: text.clone(),
                ..Default::default()
            };
            RestorableResponse { secrets: vec![secret] }.encode_to_vec()
        }),
        "Registrations" => one(&|| {
            Registration {
                id: ID.into(),
                about: text.clone(),
                name: text.clone(),
                ..Default::default()
            }
            .encode_to_vec()
        }),
        "Seal" => one(&|| SealResponse { reference: text.clone() }.encode_to_vec()),
        "Status" => one(&|| {
            StatusResponse {
                version: text.clone(),
                backend: text.clone(),
                path: text.clone(),
                degraded: vec![text.clone()],
                would_fail: vec![text.clone()],
                ..Default::default()
            }
            .encode_to_vec()
        }),
        "HsmStatus" => one(&|| {
            HsmStatusResponse {
                state: text.clone(),
                last_error: text.clone(),
                token: Some(HsmToken { label: text.clone(), ..Default::default() }),
                ..Default::default()
            }
            .encode_to_vec()
        }),
        "Refresh" => {
            let source =
                RefreshEvent { source: text.clone(), error: text.clone(), ..Default::default() };
            vec![source.encode_to_vec()]
        }
        "Plan" => plans(&text).iter().map(Message::encode_to_vec).collect(),
        _ => vec![Vec::new()],
    }
}

/// One workload whose only bad text is a key, for the others would hide it.
fn plans(text: &str) -> Vec<PlanEvent> {
    let secret = PlannedSecret {
        key: text.into(),
        name: format!("app--{text}"),
        reference: "{}".into(),
        ..Default::default()
    };
    let workload = PlannedWorkload {
        name: "app".into(),
        prefix: "app--".into(),
        secrets: vec![secret],
        ..Default::default()
    };
    vec![PlanEvent { event: Some(plan_event::Event::Workload(workload)) }]
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

/// The method's name stands in the request as it is: psi-driver compresses nothing.
fn method_of(request: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(request);
    let path = text.split("/psi.v1.").nth(1)?;
    let method = path.split('/').nth(1)?;
    Some(method.chars().take_while(char::is_ascii_alphanumeric).collect())
}

fn serve(mut stream: UnixStream, text: &str, asked: &Mutex<BTreeSet<String>>) {
    let mut request = Vec::new();
    let method = loop {
        let mut part = [0; 4_096];
        let Ok(count @ 1..) = stream.read(&mut part) else { return };
        request.extend_from_slice(&part[..count]);
        // The whole header: what follows the path is in the same write.
        if let Some(method) = method_of(&request) {
            break method;
        }
    };
    asked.lock().unwrap().insert(method.clone());
    let mut answer = frame(4, 0, 0, &[]);
    answer.extend(frame(1, 4, 1, b"\x88\x0f\x10\x10application/grpc"));
    for message in answers(&method, text) {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        answer.extend(frame(0, 0, 1, &[&[0], &length[..], &message].concat()));
    }
    answer.extend(frame(1, 5, 1, b"\x00\x0bgrpc-status\x010"));
    let _ = stream.write_all(&answer);
    let _ = stream.read_to_end(&mut Vec::new());
}

/// Everything that a command prints.
fn printed(folder: &Path, args: &[&str]) -> Vec<u8> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_psi-driver"));
    fs::write(folder.join("stdin"), "a value").unwrap();
    command.args(args).env_clear().current_dir(folder);
    command.stdin(fs::File::open(folder.join("stdin")).unwrap());
    command.env("PATH", "/usr/bin:/bin").env("HOME", folder).env("SECRET_ID", ID);
    command.env("PSI_SOCKET", folder.join("psid.sock")).env("PSI_STATE_DIR", folder.join("state"));
    command.env("PSI_CONFIG", folder.join("config.toml")).env("PSI_RUN_DIR", folder.join("psid"));
    let output = command.output().unwrap();
    [output.stdout, output.stderr].concat()
}

#[test]
fn no_text_of_a_lying_psid_reaches_a_terminal_a_file_or_a_command() {
    let commands: [&[&str]; 13] = [
        &["list"],
        &["restore"],
        &["get", "app--A"],
        &["cache", "status"],
        &["cache", "status", "--json"],
        &["cache", "refresh"],
        &["cache", "refresh", "--json"],
        &["hsm", "status"],
        &["hsm", "status", "--json"],
        &["metrics"],
        &["exec", "--", "/usr/bin/env"],
        &["render", "/dev/shm/psi-lying", "--force"],
        &["hsm", "store", "name"],
    ];
    let asked = Arc::new(Mutex::new(BTreeSet::new()));
    for text in ORDERS {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("psid.sock")).unwrap();
        let seen = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let seen = Arc::clone(&seen);
                thread::spawn(move || serve(stream.unwrap(), text, &seen));
            }
        });
        let rendered = folder.path().join("rendered");
        for args in commands {
            let args: Vec<&str> = args
                .iter()
                .map(
                    |arg| {
                        if arg.starts_with("/dev/shm") { rendered.to_str().unwrap() } else { arg }
                    },
                )
                .collect();
            let printed = printed(folder.path(), &args);
            let shown = String::from_utf8_lossy(&printed);
            let bad = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
            assert!(!shown.contains(bad), "{args:?}: {shown:?}");
            // A text of one field is on one line, with what is before it.
            for line in shown.lines() {
                let forged =
                    ["[Service]", "ExecStartPre", "psi-driver: all is well", "LD_PRELOAD="];
                assert!(!forged.iter().any(|text| line.starts_with(text)), "{args:?}: {shown}");
            }
        }
        let files: Vec<_> =
            fs::read_dir(&rendered).into_iter().flatten().map(|f| f.unwrap()).collect();
        for file in files {
            let name = file.file_name().into_string().unwrap();
            assert!(!name.contains(char::is_control), "{name:?}");
        }
        assert!(!Path::new("/tmp/owned").exists());
    }
    let asked = asked.lock().unwrap();
    for method in ["List", "Restorable", "Status", "Refresh", "HsmStatus", "Plan", "Seal"] {
        assert!(asked.contains(method), "{method} was never asked: {asked:?}");
    }
}
