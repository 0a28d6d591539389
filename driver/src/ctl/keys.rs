//! `psictl cache rekey`, `recover` and `recovery-key`: the life of the data key.

use std::io::{IsTerminal, Write, stdin};

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use psi_common::{Exit, Paths, SecretBytes};
use psi_proto::v1::Seal;

use crate::client::{Client, Deadline};
use crate::ctl::args::SealArgs;
use crate::error::CliError;
use crate::stdio;

pub(crate) fn rekey(paths: &Paths, seal: &SealArgs) -> Result<(), CliError> {
    Client::new(paths, Deadline::Admin).rekey(asked(seal).as_ref())?;
    stdio::write_text("a new data key is in use, and everything is sealed under it\n")
}

pub(crate) fn recover(paths: &Paths, seal: &SealArgs) -> Result<(), CliError> {
    let recovery_key = ask_for_key()?;
    let answer =
        Client::new(paths, Deadline::Admin).recover(&recovery_key, asked(seal).as_ref())?;
    stdio::write_text(&format!(
        "the data key is back and sealed to this host as it is now; {} cached values and {} literals open\n",
        answer.entries, answer.literals
    ))
}

pub(crate) fn make_recovery_key(paths: &Paths) -> Result<(), CliError> {
    let key = Client::new(paths, Deadline::Admin).make_recovery_key()?;
    let notes =
        "recovery key, shown only now; keep it off this host (any other one is of no use now):";
    if std::io::stdout().is_terminal() {
        let _ = writeln!(std::io::stderr(), "{notes}\n");
    }
    stdio::write_value(&key)?;
    stdio::write_text("\n")
}

fn asked(seal: &SealArgs) -> Option<Seal> {
    if seal.seal_with.is_none() && seal.tpm2_pcrs.is_none() {
        return None;
    }
    Some(Seal {
        with_key: seal.seal_with.map_or("tpm2", |with| with.name()).into(),
        tpm2_pcrs: seal.tpm2_pcrs.clone().unwrap_or_else(|| "7".into()),
    })
}

/// From stdin, for a script; with a prompt and without an echo, for people.
fn ask_for_key() -> Result<SecretBytes, CliError> {
    let terminal = stdin().is_terminal();
    let quiet = terminal.then(EchoOff::begin);
    if terminal {
        let _ = write!(std::io::stderr(), "recovery key: ");
    }
    let key = stdio::read_line();
    if terminal {
        let _ = writeln!(std::io::stderr());
    }
    drop(quiet);
    let key = key?;
    if key.is_empty() {
        return Err(CliError::new(
            Exit::BadInput,
            "no recovery key was given",
            "type it, or pass it on stdin",
        ));
    }
    Ok(key)
}

/// A terminal that does not echo, until this is dropped.
pub(super) struct EchoOff(Option<Termios>);

impl EchoOff {
    pub(super) fn begin() -> Self {
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
