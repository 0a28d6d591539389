//! The completions of names, in bash, zsh and fish.

use std::process::Command;

use serde_json::json;

use psi_harness::{Driver, Host, TerminalSession, program, repository, workload};

fn host() -> Host {
    let host = Host::of(
        &json!({"/myapp": {"A": "1"}, "/other": {}}),
        &(workload("myapp", &[("/myapp", false)]) + &workload("other", &[("/other", false)])),
    );
    host.podman.create("db-password", "the value of db");
    host.podman.create("db.url", "x");
    host
}

/// What is printed for the words of a command line up to the cursor.
fn complete(host: &Host, words: &[&str]) -> Driver {
    let args = [&["__complete"], words].concat();
    host.driver(&args).with_program(program("psictl"))
}

#[test]
fn names_of_workloads_and_secrets_are_offered() {
    let host = host();
    let offered = |words: &[&str]| complete(&host, words).text();
    assert_eq!(offered(&["exec", "-w", ""]), "myapp\nother\n");
    assert_eq!(offered(&["render", "/run/x", "--workload", "o"]), "other\n");
    assert_eq!(offered(&["exec", "--workload=my"]), "--workload=myapp\n");
    assert_eq!(offered(&["get", ""]), "db-password\ndb.url\n");
    assert_eq!(offered(&["migrate", "--to", "file", "db.url", "db-"]), "db-password\n");
    assert_eq!(offered(&["get", "db-password", ""]), "");
    assert_eq!(offered(&["exec", "--", "ls", ""]), "");
}

/// A name that the shell would expand could run a command when a person presses the tabulator.
#[test]
fn names_that_a_shell_expands_are_not_offered() {
    let host = host();
    for name in ["$(reboot)", "a b", "`reboot`", "x;y"] {
        // Podman before 4.7 does not accept them.
        host.podman.run(&["secret", "create", name, "-"], "x");
    }
    assert_eq!(complete(&host, &["get", ""]).text(), "db-password\ndb.url\n");
}

#[test]
fn completion_is_silent_where_nothing_answers() {
    let mut host = host();
    host.stop_psid();
    assert_eq!(complete(&host, &["exec", "-w", ""]).text(), "");
    assert_eq!(complete(&host, &["get", ""]).env("PATH", "/nonexistent").text(), "");
}

/// An interactive shell with this program's completions.
fn shell(host: &Host, args: &[&str]) -> TerminalSession {
    let mut command = Command::new(args[0]);
    let programs = program("psictl").parent().unwrap().display().to_string();
    command.args(&args[1..]).env_clear().envs(host.podman.environment()).current_dir("/");
    command.env("PATH", format!("{programs}:{}", std::env::var("PATH").unwrap()));
    command.env("PS1", "ready> ").env("TERM", "dumb");
    TerminalSession::start(command)
}

fn completions(file: &str) -> String {
    repository().join("contrib/completions").join(file).display().to_string()
}

/// The completed line runs: what the command prints proves the name.
#[track_caller]
fn completes(mut terminal: TerminalSession, prompt: &str) {
    terminal.answer(prompt, "psictl get db-\t");
    terminal.expect("the value of db");
    terminal.answer(prompt, "psictl exec --workload my\t -- sh -c 'echo A=$A'");
    terminal.expect("A=1");
    terminal.answer(prompt, "psictl cache stat\t --json | grep -c backend");
    terminal.expect("1");
    terminal.answer(prompt, "exit 7");
    let (code, screen) = terminal.finish();
    assert_eq!(code, 7, "{screen}");
}

#[test]
fn bash_completes_names_and_commands() {
    let host = host();
    let mut terminal = shell(&host, &["bash", "--norc", "--noprofile", "-i"]);
    terminal.answer("ready> ", &format!("source {}", completions("psictl.bash")));
    completes(terminal, "ready> ");
}

#[test]
fn zsh_completes_names_and_commands() {
    let host = host();
    let mut terminal = shell(&host, &["zsh", "-f", "-i"]);
    let directory = repository().join("contrib/completions").display().to_string();
    let load =
        format!("PS1='loaded> '; fpath=({directory} $fpath); autoload -U compinit; compinit -D -u");
    terminal.answer("ready> ", &load);
    completes(terminal, "loaded> ");
}

#[test]
fn fish_completes_names_and_commands() {
    let host = host();
    let prompt = "function fish_prompt; echo 'ready> '; end";
    let terminal = shell(
        &host,
        &[
            // Fish wants a controlling terminal.
            "setsid",
            "--ctty",
            "fish",
            "--no-config",
            "-i",
            "-C",
            prompt,
            "-C",
            &format!("source {}", completions("psictl.fish")),
        ],
    );
    completes(terminal, "ready> ");
}
