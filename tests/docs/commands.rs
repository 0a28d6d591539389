//! Each command line in the documents is one that the programs accept.

use clap::error::ErrorKind;

use crate::markdown::Document;
use crate::{documents, shell};

/// The place of a command line.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Place {
    /// A block whose lines are typed as they are.
    Block,
    /// A code span, which may name a command without its arguments.
    Span,
}

/// The words that psi-driver itself knows, with their number of arguments.
const DRIVER: [(&str, usize); 6] =
    [("lookup", 0), ("store", 0), ("delete", 0), ("list", 0), ("get", 1), ("health", 0)];

#[test]
fn every_command_in_the_documents_parses() {
    let documents = documents();
    assert!(documents.iter().map(|document| document.code.len()).sum::<usize>() > 50);
    crate::assert_none(&documents.iter().flat_map(problems).collect::<Vec<_>>());
}

/// The command lines of a document that no program accepts.
fn problems(document: &Document) -> Vec<String> {
    let mut problems = Vec::new();
    for code in document.code.iter().filter(|code| code.language == "console") {
        let command = ["# ", "$ "].iter().find_map(|prompt| code.text.strip_prefix(prompt));
        if let Some(command) = command
            && let Err(why) = check_line(command, Place::Block)
        {
            problems.push(format!("{}: {why}", document.at(code.line)));
        }
    }
    // A heading of troubleshooting.md is a message.
    for span in document.spans.iter().filter(|span| !span.is_in_heading) {
        if let Err(why) = check_line(&span.text, Place::Span) {
            problems.push(format!("{}: {why}", document.at(span.line)));
        }
    }
    problems
}

/// Checks each of psi's programs, and make, on a line of shell.
pub(crate) fn check_line(line: &str, place: Place) -> Result<(), String> {
    let Ok(commands) = shell::commands(line) else {
        return if place == Place::Span {
            Ok(())
        } else {
            Err(format!("a quote does not end: {line}"))
        };
    };
    for command in commands {
        let words: Vec<&str> =
            command.iter().map(String::as_str).take_while(|word| !word.contains('…')).collect();
        let words = words.strip_prefix(&["exec"]).unwrap_or(&words);
        check_command(words, place).map_err(|why| format!("{why}: {}", command.join(" ")))?;
    }
    Ok(())
}

fn check_command(words: &[&str], place: Place) -> Result<(), String> {
    let Some((program, arguments)) = words.split_first() else { return Ok(()) };
    match program.rsplit('/').next().unwrap_or_default() {
        "psi-driver" => check_driver(arguments, place),
        "psictl" => parse(psi_driver::ctl_command_line(), words, place),
        "psid" => parse(psi_daemon::cli::command_line(), words, place),
        "make" => check_make(arguments),
        _ => Ok(()),
    }
}

/// psi-driver parses its own words by hand, and runs psictl for all others.
fn check_driver(arguments: &[&str], place: Place) -> Result<(), String> {
    let Some((word, rest)) = arguments.split_first() else { return Ok(()) };
    if *word == "WORD" {
        return Ok(());
    }
    let known = DRIVER.iter().find(|(known, _)| known == word);
    match known {
        Some(("store", _)) if matches!(rest, ["--literal" | "--reference"]) => Ok(()),
        Some((_, count)) if rest.len() == *count => Ok(()),
        Some((_, count)) if place == Place::Span && rest.len() < *count => Ok(()),
        Some((_, count)) => Err(format!("psi-driver {word} takes {count} arguments")),
        None => parse(psi_driver::ctl_command_line(), &[&["psictl"], arguments].concat(), place),
    }
}

fn parse(line: clap::Command, words: &[&str], place: Place) -> Result<(), String> {
    let Err(error) = line.try_get_matches_from(words) else { return Ok(()) };
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(()),
        ErrorKind::MissingRequiredArgument
        | ErrorKind::MissingSubcommand
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            if place == Place::Span =>
        {
            Ok(())
        }
        _ => Err(error.to_string().lines().next().unwrap_or_default().to_owned()),
    }
}

/// A target of the Makefile; `NAME=value` are its variables.
fn check_make(arguments: &[&str]) -> Result<(), String> {
    let makefile = crate::read(&crate::repository().join("Makefile"));
    let exists =
        |target: &str| makefile.lines().any(|line| line.starts_with(&format!("{target}:")));
    // Another Makefile's targets.
    if arguments.contains(&"-f") {
        return Ok(());
    }
    for argument in arguments {
        let is_target = !argument.contains('=') && !argument.starts_with('-');
        if is_target && !exists(argument) {
            return Err(format!("the Makefile has no target {argument}"));
        }
    }
    Ok(())
}

#[test]
fn checker_reports_command_that_does_not_parse() {
    for line in [
        "psictl cache refresh --no-such-flag",
        "psictl no-such-command",
        "psictl cache init --backend disk",
        "psid no-such-command",
        "psi-driver lookup 0123",
        "psi-driver no-such-command",
        "true && psictl setup --pruned",
        "psictl get 'open",
        "make no-such-target",
        "psictl cache",
        "psictl cache invalidate",
    ] {
        assert!(check_line(line, Place::Block).is_err(), "{line}");
    }
    for line in ["psictl cache no-such-command", "psictl gc --pruned", "psid no-such-command"] {
        assert!(check_line(line, Place::Span).is_err(), "{line}");
    }
    for line in [
        "psictl cache refresh --retry",
        "psid check",
        "exec /usr/bin/psi-driver lookup",
        "psi-driver store --literal",
        "psi-driver cache status",
        "psictl metrics > x; mv x y",
    ] {
        assert_eq!(check_line(line, Place::Block), Ok(()), "{line}");
    }
    for line in ["psictl cache", "psictl cache invalidate", "psi-driver …", "don't"] {
        assert_eq!(check_line(line, Place::Span), Ok(()), "{line}");
    }
    let text = "```console\n# psictl no-such-command\n```\n`psid no-such-command`\n";
    let document = Document::parse(std::path::Path::new("x.md"), text);
    assert_eq!(problems(&document).len(), 2);
}
