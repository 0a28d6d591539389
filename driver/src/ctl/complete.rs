//! `psictl __complete WORDS`: the names that the shells' completions offer, of workloads and of podman's secrets.
//!
//! The words are those of the command line up to the cursor, without the program; the last one may be empty or begun. A
//! name is printed on each line. Every failure prints nothing: a shell's user waits for an answer and not for a message.

use std::ffi::OsString;

use clap::{Arg, ArgAction, Command};
use psi_common::Paths;
use psi_proto::v1::PlanRequest;

use super::podman;
use crate::client::{Client, Deadline};
use crate::ctl::args::ctl_command_line;
use crate::stdio;

/// The first argument, a word that is no command.
const WORD: &str = "__complete";

/// What can be completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Workload,
    Secret,
}

/// The arguments whose values have names, by command and argument.
const ARGUMENTS: [(&str, &str, Kind); 7] = [
    ("exec", "workload", Kind::Workload),
    ("env", "workload", Kind::Workload),
    ("render", "workload", Kind::Workload),
    ("get", "name", Kind::Secret),
    ("cache invalidate", "target", Kind::Secret),
    ("migrate", "names", Kind::Secret),
    ("import podman-secret", "names", Kind::Secret),
];

/// Prints the names, if the command line asks for a completion.
pub(crate) fn run(paths: &Paths, args: &[OsString]) -> bool {
    if args.get(1).is_none_or(|word| word != WORD) {
        return false;
    }
    let words: Vec<&str> = args[2..].iter().map(|word| word.to_str().unwrap_or_default()).collect();
    if let Some((kind, begun)) = wanted(&words) {
        // `--workload=NAME` is one word.
        let (before, name) = match begun.split_once('=') {
            Some((_, name)) if begun.starts_with('-') => begun.split_at(begun.len() - name.len()),
            _ => ("", begun),
        };
        let names = names(paths, kind).into_iter().filter(|known| known.starts_with(name));
        let lines: String = names.map(|name| format!("{before}{name}\n")).collect();
        let _ = stdio::write_text(&lines);
    }
    true
}

/// The names that a shell takes as they are.
fn names(paths: &Paths, kind: Kind) -> Vec<String> {
    let mut names: Vec<String> = match kind {
        Kind::Workload => {
            let plan =
                Client::new(paths, Deadline::Probe).plan(&PlanRequest::default(), &mut |_| {});
            plan.unwrap_or_default().into_iter().map(|workload| workload.name).collect()
        }
        Kind::Secret => podman::names().unwrap_or_default(),
    };
    names.retain(|name| is_plain(name));
    names.sort_unstable();
    names.dedup();
    names
}

/// Whether no shell expands or splits a name. Podman accepts almost any text as a name.
fn is_plain(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+".contains(&byte);
    !name.is_empty() && !name.starts_with('-') && name.bytes().all(is_plain)
}

/// The kind of names that the last word can be, and its beginning.
fn wanted<'a>(words: &[&'a str]) -> Option<(Kind, &'a str)> {
    // Bash splits a word at its `=`.
    let words: Vec<&str> = words.iter().copied().filter(|word| *word != "=").collect();
    let (begun, before) = words.split_last()?;
    let line = ctl_command_line();
    let mut place = Place { command: &line, path: Vec::new(), positionals: 0, option: None };
    for word in before {
        place.pass(word)?;
    }
    let kind = place.kind(place.argument(begun)?)?;
    Some((kind, begun))
}

/// A place in a command line.
struct Place<'a> {
    command: &'a Command,
    /// The names of the command and of those above it, without the program.
    path: Vec<&'a str>,
    /// The positional arguments so far.
    positionals: usize,
    /// The option whose value is the next word.
    option: Option<&'a Arg>,
}

impl<'a> Place<'a> {
    /// Reads one word; `None` after `--`, behind which another program's words are.
    fn pass(&mut self, word: &str) -> Option<()> {
        if self.option.take().is_some() {
            return Some(());
        }
        if word == "--" {
            return None;
        }
        if word.starts_with('-') {
            self.option = self.option_of(word).filter(|_| !word.contains('='));
        } else if let Some(below) = self.command.find_subcommand(word) {
            self.command = below;
            self.path.push(below.get_name());
        } else {
            self.positionals += 1;
        }
        Some(())
    }

    /// The option with a value that a word names, as its last letter if it has one dash.
    fn option_of(&self, word: &str) -> Option<&'a Arg> {
        let arguments = self.command.get_arguments();
        let mut options = arguments.filter(|arg| arg.get_action().takes_values());
        match word.strip_prefix("--") {
            Some(long) => {
                let long = long.split('=').next();
                options.find(|arg| arg.get_long().is_some() && arg.get_long() == long)
            }
            None => {
                let short = word.chars().next_back();
                options.find(|arg| arg.get_short().is_some() && arg.get_short() == short)
            }
        }
    }

    /// The argument whose value the last word is.
    fn argument(&self, begun: &str) -> Option<&'a Arg> {
        if let Some(option) = self.option {
            return Some(option);
        }
        if begun.starts_with('-') {
            return begun.contains('=').then(|| self.option_of(begun)).flatten();
        }
        let last = || self.command.get_positionals().last();
        let repeated = || last().filter(|arg| matches!(arg.get_action(), ArgAction::Append));
        self.command.get_positionals().nth(self.positionals).or_else(repeated)
    }

    fn kind(&self, argument: &Arg) -> Option<Kind> {
        let command = self.path.join(" ");
        let known = ARGUMENTS
            .iter()
            .find(|(known, id, _)| *known == command && *id == argument.get_id().as_str());
        known.map(|(_, _, kind)| *kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wanted_finds_the_arguments_with_names() {
        use Kind::{Secret, Workload};
        for (words, expected) in [
            (&["exec", "-w", ""][..], Some((Workload, ""))),
            (&["exec", "--workload", "my"], Some((Workload, "my"))),
            (&["exec", "--workload=my"], Some((Workload, "--workload=my"))),
            (&["exec", "--workload", "=", "my"], Some((Workload, "my"))),
            (&["render", "/run/x", "-w", "a", "--force", "-w", "m"], Some((Workload, "m"))),
            (&["get", ""], Some((Secret, ""))),
            (&["cache", "invalidate", "d"], Some((Secret, "d"))),
            (&["migrate", "--from", "file", "a", "b", ""], Some((Secret, ""))),
            (&["import", "podman-secret", "a", "--project", "p", "d"], Some((Secret, "d"))),
            (&[], None),
            (&[""], None),
            (&["ge"], None),
            (&["get", "a", ""], None),
            (&["get", "-"], None),
            (&["exec", ""], None),
            (&["exec", "-w", "a", "--", ""], None),
            (&["exec", "--", "psictl", "get", ""], None),
            (&["migrate", "--from", ""], None),
            (&["render", ""], None),
            (&["no-such-command", ""], None),
        ] {
            assert_eq!(wanted(words), expected, "{words:?}");
        }
    }

    #[test]
    fn table_names_arguments_of_the_command_line() {
        let line = ctl_command_line();
        for (command, id, _) in ARGUMENTS {
            let found = command.split(' ').try_fold(&line, |line, word| line.find_subcommand(word));
            assert!(
                found.is_some_and(|it| it.get_arguments().any(|arg| arg.get_id() == id)),
                "{command} {id}"
            );
        }
    }

    #[test]
    fn is_plain_rejects_what_a_shell_would_change() {
        assert!(is_plain("myapp--DB_HOST") && is_plain("a.b+c"));
        for name in ["", "-x", "a b", "$(reboot)", "`x`", "a;b", "a:b", "a'b", "a\\b", "a\nb", "é"]
        {
            assert!(!is_plain(name), "{name}");
        }
    }
}
