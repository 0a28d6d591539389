//! The dialects of `psictl import env-file`, compared with the programs that they are of: Docker Compose; the npm package
//! dotenv, Node and python-dotenv. Podman is compared by `tests/import`.
//!
//! A file that psictl accepts has the values that each program of its dialect reads. psictl refuses more files than they
//! do, so that nothing is concluded from a refusal.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a panic is the failure of a test"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use psi_driver::testing::env_file;
use psi_fuzz::Target;
use psi_mutation::Mutator;
use serde_json::{Value, json};

/// Variables by name.
type Variables = BTreeMap<String, String>;

/// The number of files that are compared.
const FILES: usize = 400;

/// Files that people write.
const USUAL: [&str; 12] = [
    "# a comment\nA=1\n\nexport B='two words'\n",
    "A=\"line 1\nline 2\"\nB='line 1\nline 2' # c\n",
    "\u{feff}A=1\r\nB=\"2\"\r\nC='3' \r\nD=4 # c\r\n",
    "A=\nB=''\nC=\"\"\n  D =  x  \n",
    "A=a=b==\nURL=https://user:p%40ss@host:1/path?x=y&z#frag\n",
    "URL='postgres://u:pa$word@db/x'\n",
    "A=\"tab\\tquote\\\"end\\n\"\nB='it\\'s'\n",
    "A=1\nB=${A}2\nC=\"$A${B:-x}${N:-n}\"\nD=${A:+y}$$z\n",
    "A=1\nA=2\nB=\"\\$A $$ $1\"\n",
    "KEY=\"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIE==\n-----END PRIVATE KEY-----\n\"\n",
    "JSON='{\"a\": [1, \"b\"]}'\nYAML: x y\n",
    "A=x#y\nB=x\t# y\nC=# z\nD=`id`\n",
];

/// Mutated files with the variables that psictl reads, for those that it accepts.
fn accepted(dialect: &str) -> Vec<(Vec<u8>, Variables)> {
    let target = Target::named("env-file").unwrap();
    let seeds = target.seeds().into_iter().map(|seed| seed[1..].to_vec());
    let usual: Vec<Vec<u8>> =
        USUAL.iter().map(|text| text.as_bytes().to_vec()).chain(seeds).collect();
    let number = std::env::var("PSI_FUZZ_SEED").map_or(1, |number| number.parse().unwrap());
    let mut mutator = Mutator::new(number, usual.clone(), target.words());
    let mut found = Vec::new();
    let mut usual = usual.into_iter();
    while found.len() < FILES {
        let text = usual.next().unwrap_or_else(|| mutator.input());
        let Ok(variables) = env_file(dialect, &text) else { continue };
        let as_text = |(name, value)| (name, String::from_utf8(value).unwrap());
        let variables: Variables = variables.into_iter().map(as_text).collect();
        if !variables.is_empty() {
            found.push((text, variables));
        }
    }
    found
}

#[track_caller]
fn assert_same(program: &str, read: &[Variables], expected: &[(Vec<u8>, Variables)]) {
    assert_eq!(read.len(), expected.len(), "{program}");
    for (read, (text, expected)) in read.iter().zip(expected) {
        assert_eq!(read, expected, "{program} reads {}", text.escape_ascii());
    }
}

#[test]
fn compose_reads_accepted_files_alike() {
    let files = accepted("compose");
    let directory = tempfile::tempdir().unwrap();
    let mut services = serde_json::Map::new();
    for (nth, (text, _)) in files.iter().enumerate() {
        fs::write(directory.path().join(format!("{nth}.env")), text).unwrap();
        let service = json!({"image": "x", "env_file": [format!("{nth}.env")]});
        services.insert(format!("s{nth}"), service);
    }
    let compose = directory.path().join("compose.json");
    fs::write(&compose, json!({"name": "x", "services": services}).to_string()).unwrap();
    let mut command = Command::new(tools().join("docker-compose"));
    command.env_clear().arg("-f").arg(&compose).args(["config", "--format", "json"]);
    let printed: Value = serde_json::from_str(&output(command, "")).unwrap();
    // Compose's output is a compose file again, in which a dollar sign is doubled.
    let variables = |nth: usize| {
        let all = printed["services"][format!("s{nth}")]["environment"].as_object().unwrap();
        all.iter().map(|(name, value)| (name.clone(), text(value).replace("$$", "$"))).collect()
    };
    let read: Vec<Variables> = (0..files.len()).map(variables).collect();
    assert_same("docker-compose", &read, &files);
}

#[test]
fn programs_that_read_dot_env_files_read_accepted_files_alike() {
    let files = accepted("dotenv");
    let texts = |files: &[(Vec<u8>, Variables)]| {
        let texts: Vec<_> = files.iter().map(|(text, _)| String::from_utf8_lossy(text)).collect();
        json!(texts).to_string()
    };
    let packages = packages();
    let script = "const parse = PARSE; let text = ''; process.stdin.on('data', part => text += part);\
        process.stdin.on('end', () => console.log(JSON.stringify(JSON.parse(text).map(parse))))";
    let without_mark: Vec<_> =
        files.iter().filter(|(text, _)| !text.starts_with(b"\xef\xbb\xbf")).cloned().collect();
    let of_node: Vec<_> =
        without_mark.iter().filter(|(text, _)| !node_misreads(text)).cloned().collect();
    let node = [
        ("dotenv", "text => require('dotenv').parse(text)", &files),
        ("node", "text => require('util').parseEnv(text)", &of_node),
    ];
    for (program, parse, files) in node {
        let mut command = Command::new("node");
        command.current_dir(&packages).args(["-e", &script.replace("PARSE", parse)]);
        assert_same(program, &read(&output(command, &texts(files))), files);
    }
    let script = "import io, json, sys, dotenv\n\
        print(json.dumps([dotenv.dotenv_values(stream=io.StringIO(text, newline=None), interpolate=True)\n\
        for text in json.load(sys.stdin)]))";
    let mut command = Command::new(packages.join("venv/bin/python"));
    command.args(["-c", script]);
    assert_same("python-dotenv", &read(&output(command, &texts(&without_mark))), &without_mark);
}

/// Node 20 takes a line of blanks into the name of the next line, and a comment after blanks for a name. The values are
/// the same. It keeps a byte order mark in the first name, as python-dotenv does.
fn node_misreads(text: &[u8]) -> bool {
    let mut lines = text.split(|byte| *byte == b'\n');
    lines.any(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let rest = line.trim_ascii_start();
        rest.len() < line.len() && (rest.is_empty() || rest.starts_with(b"#"))
    })
}

fn read(printed: &str) -> Vec<Variables> {
    let all: Vec<BTreeMap<String, Value>> = serde_json::from_str(printed).unwrap();
    let variables = |one: BTreeMap<String, Value>| {
        one.into_iter().map(|(name, value)| (name, text(&value).to_owned())).collect()
    };
    all.into_iter().map(variables).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("(no value)")
}

/// The programs that `make deps` fetches.
fn tools() -> PathBuf {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let tools = tmp.parent().unwrap().join("tools");
    assert!(tools.join("docker-compose").exists(), "run `make deps`");
    tools
}

/// The packages of npm and of Python, installed once. The test fails if they cannot be installed.
fn packages() -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dotenv");
    let installed = directory.join("installed");
    if !installed.exists() {
        fs::create_dir_all(&directory).unwrap();
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--loglevel=error", "--prefix"]);
        output(
            {
                npm.arg(&directory).arg("dotenv@18.0.10");
                npm
            },
            "",
        );
        let mut venv = Command::new("python3");
        output(
            {
                venv.args(["-m", "venv", "--clear"]).arg(directory.join("venv"));
                venv
            },
            "",
        );
        let mut pip = Command::new(directory.join("venv/bin/pip"));
        output(
            {
                pip.args(["install", "--quiet", "--no-deps", "python-dotenv==1.2.2"]);
                pip
            },
            "",
        );
        fs::write(installed, "").unwrap();
    }
    directory
}

#[track_caller]
fn output(mut command: Command, stdin: &str) -> String {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut pipe = child.stdin.take().unwrap();
    let stdin = stdin.to_owned();
    let writer = std::thread::spawn(move || pipe.write_all(stdin.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let _ = writer.join().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}
