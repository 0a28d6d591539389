//! Questions at a terminal, on stderr: stdout is the report.

use std::io::{IsTerminal, Write, stderr, stdin};

use psi_common::{Exit, SecretBytes, check};

use crate::ctl::keys;
use crate::error::CliError;
use crate::stdio;

/// The end of stdin looks like empty lines.
const MAX_TRIES: usize = 8;

/// A terminal with a person.
pub(super) struct Terminal(());

impl Terminal {
    pub(super) fn of_this_process() -> Option<Self> {
        (stdin().is_terminal() && stderr().is_terminal()).then_some(Self(()))
    }

    /// Shows lines of text.
    pub(super) fn show(&self, text: &str) {
        let _ = stderr().write_all(check::printable_lines(text).as_bytes());
    }

    /// Asks until the answer passes the check; an empty answer is the default.
    pub(super) fn ask(
        &self,
        question: &str,
        default: Option<&str>,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> Result<String, CliError> {
        for _ in 0..MAX_TRIES {
            self.prompt(&match default {
                Some(default) if !default.is_empty() => format!("{question} [{default}]: "),
                _ => format!("{question}: "),
            });
            let line = stdio::read_line()?;
            let text = String::from_utf8_lossy(line.expose_secret()).trim().to_owned();
            let answer = match default {
                Some(default) if text.is_empty() => default.to_owned(),
                _ => text,
            };
            match check(&answer) {
                Ok(()) => return Ok(answer),
                Err(why) => self.show(&format!("  {why}\n")),
            }
        }
        Err(no_answer(question))
    }

    /// Asks without an echo; `None` for an empty answer, if that is allowed.
    pub(super) fn ask_secret(
        &self,
        question: &str,
        may_be_empty: bool,
    ) -> Result<Option<SecretBytes>, CliError> {
        for _ in 0..MAX_TRIES {
            match keys::read_hidden_line(question)? {
                line if !line.is_empty() => return Ok(Some(line)),
                _ if may_be_empty => return Ok(None),
                _ => self.show("  it is empty\n"),
            }
        }
        Err(no_answer(question))
    }

    /// Asks for one of several things, by their numbers; the index of the choice.
    pub(super) fn choose(&self, question: &str, choices: &[&str]) -> Result<usize, CliError> {
        let mut text = format!("{question}\n");
        for (at, choice) in choices.iter().enumerate() {
            text += &format!("  {}) {choice}\n", at + 1);
        }
        self.show(&text);
        let number = |answer: &str| {
            answer.parse().ok().filter(|number| (1..=choices.len()).contains(number))
        };
        let answer = self.ask("Choice", None, |answer| match number(answer) {
            Some(_) => Ok(()),
            None => Err(format!("type a number from 1 to {}", choices.len())),
        })?;
        Ok(number(&answer).map_or(0, |number| number - 1))
    }

    /// Asks for yes, the default, or no.
    pub(super) fn confirm(&self, question: &str) -> Result<bool, CliError> {
        let answer = self.ask(&format!("{question} [Y/n]"), Some(""), |answer| {
            match answer.to_ascii_lowercase().as_str() {
                "" | "y" | "yes" | "n" | "no" => Ok(()),
                _ => Err("type y or n".into()),
            }
        })?;
        Ok(!answer.to_ascii_lowercase().starts_with('n'))
    }

    fn prompt(&self, text: &str) {
        let _ = stderr().write_all(check::printable(text).as_bytes());
    }
}

fn no_answer(question: &str) -> CliError {
    CliError::new(
        Exit::Usage,
        format!("no answer to '{question}'"),
        "run it again at a terminal, or give each answer as a flag, see `psictl init --help`",
    )
}
