//! A compromised psid: it speaks the protocol, and fills each text with commands for a terminal, a unit or a shell.
//! psictl prints, executes and writes none of them.

#![allow(clippy::unwrap_used, missing_docs, reason = "a panic is the failure of a test")]

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
/// Terminal commands (in C0 and in C1), lines of a unit, a forged line of psi-driver, a change of text direction, a shell
/// command, another directory, a variable that loads code.
const HOSTILE: [&str; 8] = [
    "a\u{1b}]0;owned\u{7}",
    "a\u{9b}2J",
    "a\n[Service]\nExecStartPre=/bin/id",
    "a\r\npsi-driver: all is well",
    "a\u{202e}b",
    "a'; id >/tmp/owned; '",
    "../../../../etc/cron.d/a",
    "LD_PRELOAD",
];

/// psid's response to a method, with `text` in each text field.
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
                description: text.clone(),
                ..Default::default()
            };
            RestorableResponse { secrets: vec![secret] }.encode_to_vec()
        }),
        "Registrations" => one(&|| {
            Registration {
                id: ID.into(),
                description: text.clone(),
                name: text.clone(),
                store: text.clone(),
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
        reference: r#"{"provider":"infisical"}"#.into(),
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

/// A plan with one bad text in each of the fields that root writes into a unit or passes to podman.
fn plans_of_units(text: &str) -> Vec<PlanEvent> {
    let changes: [fn(&mut PlannedWorkload, &str); 7] = [
        |workload, text| workload.secrets[0].key = text.into(),
        |workload, text| workload.secrets[0].name = text.into(),
        |workload, text| workload.secrets[0].reference = text.into(),
        |workload, text| workload.secrets[0].ids = vec![text.into()],
        |workload, text| workload.name = text.into(),
        |workload, text| workload.prefix = text.into(),
        |workload, text| workload.depends_on = vec![text.into()],
    ];
    let plans = changes.iter().map(|change| {
        let secret = PlannedSecret {
            key: "A".into(),
            name: "app--A".into(),
            reference: r#"{"provider":"infisical"}"#.into(),
            source: text.into(),
            warnings: vec![text.into()],
            ..Default::default()
        };
        let mut workload = PlannedWorkload {
            name: "app".into(),
            prefix: "app--".into(),
            secrets: vec![secret],
            ..Default::default()
        };
        change(&mut workload, text);
        PlanEvent { event: Some(plan_event::Event::Workload(workload)) }
    });
    plans.collect()
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

/// The method of a request, in which it is plain text: psi-driver does not compress headers.
fn method_of(request: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(request);
    let path = text.split("/psi.v1.").nth(1)?;
    let method = path.split('/').nth(1)?;
    Some(method.chars().take_while(char::is_ascii_alphanumeric).collect())
}

fn serve(stream: UnixStream, text: &str, asked: &Mutex<BTreeSet<String>>) {
    serve_with(stream, asked, |method| answers(method, text));
}

fn serve_with(
    mut stream: UnixStream,
    asked: &Mutex<BTreeSet<String>>,
    answers: impl Fn(&str) -> Vec<Vec<u8>>,
) {
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
    for message in answers(&method) {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        answer.extend(frame(0, 0, 1, &[&[0], &length[..], &message].concat()));
    }
    answer.extend(frame(1, 5, 1, b"\x00\x0bgrpc-status\x010"));
    let _ = stream.write_all(&answer);
    let _ = stream.read_to_end(&mut Vec::new());
}

/// A psid in a directory of a test's, which answers each call in a thread of its own.
fn listen(directory: &Path, answer: impl Fn(UnixStream) + Send + Sync + 'static) {
    let listener = UnixListener::bind(directory.join("psid.sock")).unwrap();
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let answer = Arc::clone(&answer);
            thread::spawn(move || answer(stream.unwrap()));
        }
    });
}

/// Everything that a command prints.
fn printed(directory: &Path, args: &[&str]) -> Vec<u8> {
    let program = match args[0] {
        "lookup" | "store" | "delete" | "list" | "get" | "health" => {
            env!("CARGO_BIN_EXE_psi-driver")
        }
        _ => env!("CARGO_BIN_EXE_psictl"),
    };
    let mut command = Command::new(program);
    fs::write(directory.join("stdin"), "a value").unwrap();
    command.args(args).env_clear().current_dir(directory);
    command.stdin(fs::File::open(directory.join("stdin")).unwrap());
    let path = format!("{}:/usr/bin:/bin", directory.join("bin").display());
    command.env("PATH", path).env("HOME", directory).env("SECRET_ID", ID);
    command
        .env("PSI_SOCKET", directory.join("psid.sock"))
        .env("PSI_STATE_DIR", directory.join("state"));
    command
        .env("PSI_CONFIG", directory.join("config.toml"))
        .env("PSI_RUN_DIR", directory.join("psid"));
    let output = command.output().unwrap();
    [output.stdout, output.stderr].concat()
}

/// Asserts that the output has no control characters, and that no text of a field begins a line.
#[track_caller]
fn assert_harmless(args: &[&str], printed: &[u8]) {
    let shown = String::from_utf8_lossy(printed);
    let bad = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    assert!(!shown.contains(bad), "{args:?}: {shown:?}");
    for line in shown.lines() {
        let forged = ["[Service]", "ExecStartPre", "psi-driver: all is well", "LD_PRELOAD="];
        assert!(!forged.iter().any(|text| line.starts_with(text)), "{args:?}: {shown}");
    }
}

#[test]
fn hostile_text_reaches_no_terminal_file_or_command() {
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
    for text in HOSTILE {
        let directory = tempfile::tempdir().unwrap();
        let seen = Arc::clone(&asked);
        listen(directory.path(), move |stream| serve(stream, text, &seen));
        let rendered = directory.path().join("rendered");
        for args in commands {
            let args: Vec<&str> = args
                .iter()
                .map(
                    |arg| {
                        if arg.starts_with("/dev/shm") { rendered.to_str().unwrap() } else { arg }
                    },
                )
                .collect();
            let printed = printed(directory.path(), &args);
            assert_harmless(&args, &printed);
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

/// A fake podman that logs its arguments and its stdin, with one secret of psi and one unregistered secret.
fn podman(directory: &Path) {
    let (bin, root) = (directory.join("bin"), directory.join("root"));
    fs::create_dir_all(&bin).unwrap();
    fs::create_dir_all(root.join("secrets")).unwrap();
    let options = r#"{"lookup":"exec /usr/bin/psi-driver lookup"}"#;
    let secret = |id: &str, name: &str| {
        format!(
            r#"{{"ID":"{id}","Spec":{{"Name":"{name}","Driver":{{"Name":"shell","Options":{options}}}}}}}"#
        )
    };
    let (calls, other) = (directory.join("calls"), "f".repeat(25));
    let secrets = [secret(ID, "app--OLD"), secret(&other, "theirs")].join(",");
    let root = root.display();
    let script = format!(
        "#!/bin/sh\nprintf '%s\\n' \"$@\" >>{calls}\ncase \"$1 $2\" in\n\
         'info '*) echo '{{\"store\":{{\"graphRoot\":\"{root}\"}},\"version\":{{\"Version\":\"5.8.6\"}}}}';;\n\
         'secret ls') printf '{ID}\\n{other}\\n';;\n'secret inspect') echo '[{secrets}]';;\n\
         'secret create') cat >>{calls};;\nesac\n",
        calls = calls.display(),
    );
    let path = bin.join("podman");
    fs::write(&path, script).unwrap();
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
}

/// Every name and every byte of the files below a directory.
fn written(directory: &Path, all: &mut Vec<u8>) {
    for file in fs::read_dir(directory).into_iter().flatten().map(|file| file.unwrap().path()) {
        all.extend_from_slice(file.as_os_str().as_encoded_bytes());
        if file.is_dir() {
            written(&file, all);
        } else {
            all.extend(fs::read(&file).unwrap());
        }
    }
}

/// `setup` writes root's units, and it and `gc` run podman: no byte of a lying psid's is in either.
#[test]
fn hostile_text_reaches_no_unit_and_no_podman() {
    let commands: [&[&str]; 8] = [
        &["setup", "--quadlets", "quadlets", "--prune", "--accept-removals"],
        &["setup", "--quadlets", "quadlets", "--dry-run"],
        &["setup", "--quadlets", "quadlets", "--dry-run", "--json"],
        &["gc", "--dry-run"],
        &["gc", "--force", "--json"],
        &["doctor", "--quadlets", "quadlets"],
        &["restore", "--all"],
        &["add", "name", "--literal"],
    ];
    for text in HOSTILE {
        for number in 0..plans_of_units(text).len() {
            let directory = tempfile::tempdir().unwrap();
            podman(directory.path());
            let quadlets = directory.path().join("quadlets");
            listen(directory.path(), move |stream| {
                serve_with(stream, &Mutex::default(), |method| match method {
                    "Plan" => vec![plans_of_units(text)[number].encode_to_vec()],
                    method => answers(method, text),
                });
            });
            for args in commands {
                let args: Vec<&str> = args
                    .iter()
                    .map(|arg| if *arg == "quadlets" { quadlets.to_str().unwrap() } else { arg })
                    .collect();
                let printed = printed(directory.path(), &args);
                assert_harmless(&args, &printed);
            }
            let mut bytes = fs::read(directory.path().join("calls")).unwrap();
            let calls = String::from_utf8_lossy(&bytes).into_owned();
            // Neither the hostile prefix nor gc removes podman's secrets.
            assert!(!calls.lines().any(|line| line == "theirs" || line == "rm"), "{calls}");
            written(&quadlets, &mut bytes);
            let bytes = String::from_utf8_lossy(&bytes);
            assert!(!bytes.contains(text), "{number}: {bytes}");
            for text in ["ExecStartPre", "[Service]", "owned", "/etc/cron.d", "\u{1b}", "\u{9b}"] {
                assert!(!bytes.contains(text), "{number}: {bytes}");
            }
        }
    }
}

/// With valid texts, the same calls write a unit and call podman.
#[test]
fn valid_plan_is_set_up() {
    let directory = tempfile::tempdir().unwrap();
    podman(directory.path());
    let quadlets = directory.path().join("quadlets");
    listen(directory.path(), |stream| {
        serve_with(stream, &Mutex::default(), |method| match method {
            "Plan" => plans_of_units("network-online.target")[6..]
                .iter()
                .map(Message::encode_to_vec)
                .collect(),
            "Registrations" => Vec::new(),
            method => answers(method, "x"),
        });
    });
    printed(directory.path(), &["setup", "--quadlets", quadlets.to_str().unwrap()]);
    let calls = fs::read_to_string(directory.path().join("calls")).unwrap();
    assert!(calls.contains("app--A") && calls.contains(r#"{"provider":"infisical"}"#), "{calls}");
    let unit = fs::read_to_string(quadlets.join("app.container.d/50-psi.conf")).unwrap();
    assert!(unit.contains("network-online.target"), "{unit}");
}
