//! `psictl cache rekey`, `recover` and `recovery-key`: the data key and its recovery key.

use std::io::{IsTerminal, Write, stdin};

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use psi_common::{Exit, Paths, SealMode, SecretBytes};
use psi_proto::v1::Seal;

use crate::client::{Client, Deadline};
use crate::ctl::args::SealArgs;
use crate::ctl::wording::counted;
use crate::error::CliError;
use crate::stdio;

pub(crate) fn rekey(paths: &Paths, seal: &SealArgs) -> Result<(), CliError> {
    Client::new(paths, Deadline::Admin).rekey(requested(seal).as_ref())?;
    stdio::write_text("a new data key is in use; everything is encrypted with it\n")
}

pub(crate) fn recover(paths: &Paths, seal: &SealArgs) -> Result<(), CliError> {
    let recovery_key = read_secret_line("recovery key", "recovery key")?;
    let answer =
        Client::new(paths, Deadline::Admin).recover(&recovery_key, requested(seal).as_ref())?;
    stdio::write_text(&format!(
        "the data key is recovered and sealed to this host; {} and {} can be decrypted\n",
        counted(answer.entries, "cached value"),
        counted(answer.literals, "literal")
    ))
}

pub(crate) fn make_recovery_key(paths: &Paths) -> Result<(), CliError> {
    let key = Client::new(paths, Deadline::Admin).make_recovery_key()?;
    let notice =
        "recovery key, shown only once; keep it off this host (an earlier one is invalid now):";
    if std::io::stdout().is_terminal() {
        let _ = writeln!(std::io::stderr(), "{notice}\n");
    }
    stdio::write_value(&key)?;
    stdio::write_text("\n")
}

fn requested(seal: &SealArgs) -> Option<Seal> {
    if seal.seal_with.is_none() && seal.tpm2_pcrs.is_none() {
        return None;
    }
    Some(Seal {
        with_key: seal.seal_with.map_or("tpm2", SealMode::name).into(),
        tpm2_pcrs: seal.tpm2_pcrs.clone().unwrap_or_else(|| "7".into()),
    })
}

/// Reads one line of stdin; at a terminal, after a prompt and without an echo. `kind` names it in the error.
pub(super) fn read_secret_line(prompt: &str, kind: &str) -> Result<SecretBytes, CliError> {
    let line = read_hidden_line(prompt)?;
    if line.is_empty() {
        return Err(CliError::new(
            Exit::BadInput,
            format!("the {kind} is empty"),
            "type it, or pass it on stdin",
        ));
    }
    Ok(line)
}

/// The same for a line that may be empty.
pub(super) fn read_hidden_line(prompt: &str) -> Result<SecretBytes, CliError> {
    let terminal = stdin().is_terminal();
    let echo_off = terminal.then(EchoOff::begin);
    if terminal {
        let _ = write!(std::io::stderr(), "{prompt}: ");
    }
    let line = stdio::read_line();
    if terminal {
        let _ = writeln!(std::io::stderr());
    }
    drop(echo_off);
    line
}

/// Turns off the terminal's echo until it is dropped.
struct EchoOff(Option<Termios>);

impl EchoOff {
    fn begin() -> Self {
        let before = tcgetattr(stdin()).ok();
        if let Some(before) = &before {
            let mut silent = before.clone();
            silent.local_flags.remove(LocalFlags::ECHO);
            let _ = tcsetattr(stdin(), SetArg::TCSAFLUSH, &silent);
        }
        Self(before)
    }
}

impl Drop for EchoOff {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(stdin(), SetArg::TCSANOW, before);
        }
    }
}
