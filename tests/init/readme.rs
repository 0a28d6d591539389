//! The README's transcript of `psictl init` is what a terminal shows.

use psi_harness::{CLIENT_SECRET, PROJECT, TerminalSession, identity, repository};

use super::staged_host::StagedHost;

const CLIENT_ID: &str = "11111111-2222-3333-4444-555555555555";

/// The lines of the block that begins with the command.
fn transcript(readme: &str) -> Vec<String> {
    let block = readme.split_once("```console\n# psictl init\n").unwrap().1;
    let block = block.split_once("\n```").unwrap().0;
    block.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// The lines of a transcript that the screen does not show, or not after the ones before.
fn strays(transcript: &[String], screen: &str) -> Vec<String> {
    let mut shown = screen.lines().map(str::trim_end);
    let mut strays = Vec::new();
    for line in transcript {
        let rest = shown.clone();
        if shown.any(|shown| shown == line) {
            continue;
        }
        strays.push(line.clone());
        shown = rest;
    }
    strays
}

#[test]
fn transcript_in_the_readme_is_what_a_terminal_shows() {
    let host = StagedHost::new();
    host.infisical.put_identity(&identity("i-readme", CLIENT_ID, CLIENT_SECRET));
    let mut terminal =
        TerminalSession::start(host.command(&["psictl", "init", "--no-recovery-key"]));
    for (question, answer) in [
        ("Infisical's URL", host.infisical.url()),
        ("Login method", ""),
        ("Client ID", CLIENT_ID),
        ("Project ID", PROJECT),
        ("Environment's slug", ""),
        ("Name of the project", ""),
        ("Name of a container's unit", "myapp"),
        ("Directory of its secrets", ""),
        ("Client secret: ", CLIENT_SECRET),
        ("Continue?", "y"),
    ] {
        terminal.answer(question, answer);
    }
    let (code, screen) = terminal.finish();
    assert_eq!(code, 0, "{screen}\n{}", host.logs());
    let screen = screen.replace(host.infisical.url(), "https://infisical.example");
    // Before systemd 253.
    let screen = screen.replace("(PCRs as systemd chooses)", "(no PCRs)");
    let readme = std::fs::read_to_string(repository().join("README.md")).unwrap();
    let strays = strays(&transcript(&readme), &screen);
    assert!(
        strays.is_empty(),
        "README.md shows\n{}\nand the terminal shows\n{screen}",
        strays.join("\n")
    );
}

#[test]
fn strays_are_lines_that_are_not_shown_in_order() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert!(strays(&lines("a\nc"), "a\nb \nc\n").is_empty());
    assert_eq!(strays(&lines("c\na\nx"), "a\nb\nc\n"), ["a", "x"]);
}
