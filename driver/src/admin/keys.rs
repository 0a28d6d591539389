//! `psi-driver cache rekey`, `recover` and `recovery-key`: the life of the data key.

use std::io::{IsTerminal, Write};

use psi_common::{Exit, Paths, SecretBytes};
use psi_proto::v1::Seal;

use crate::args::SealArgs;
use crate::client::{Client, Patience};
use crate::failure::Failure;
use crate::stdio;

pub(crate) fn rekey(paths: &Paths, seal: &SealArgs) -> Result<(), Failure> {
    Client::new(paths, Patience::Admin).rekey(asked(seal).as_ref())?;
    stdio::write_text("a new data key is in use, and everything is sealed under it\n")
}

pub(crate) fn recover(paths: &Paths, seal: &SealArgs) -> Result<(), Failure> {
    let recovery_key = ask("recovery key", "recovery key")?;
    let answer =
        Client::new(paths, Patience::Admin).recover(&recovery_key, asked(seal).as_ref())?;
    stdio::write_text(&format!(
        "the data key is back and sealed to this host as it is now; {} cached values and {} literals open\n",
        answer.entries, answer.literals
    ))
}

pub(crate) fn make_recovery_key(paths: &Paths) -> Result<(), Failure> {
    let key = Client::new(paths, Patience::Admin).make_recovery_key()?;
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

/// One line of stdin; at a terminal with a prompt and without an echo. `kind` names what is missing when it is empty.
pub(super) fn ask(prompt: &str, kind: &str) -> Result<SecretBytes, Failure> {
    let terminal = std::io::stdin().is_terminal();
    let quiet = terminal.then(Quiet::begin);
    if terminal {
        let _ = write!(std::io::stderr(), "{prompt}: ");
    }
    let line = stdio::read_line();
    if terminal {
        let _ = writeln!(std::io::stderr());
    }
    drop(quiet);
    let line = line?;
    if line.is_empty() {
        return Err(Failure::new(
            Exit::BadInput,
            format!("no {kind} was given"),
            "type it, or pass it on stdin",
        ));
    }
    Ok(line)
}

/// A terminal that does not echo, until this is dropped.
struct Quiet(Option<rustix::termios::Termios>);

impl Quiet {
    fn begin() -> Self {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        let stdin = rustix::stdio::stdin();
        let before = tcgetattr(stdin).ok();
        if let Some(before) = &before {
            let mut quiet = before.clone();
            quiet.local_modes.remove(LocalModes::ECHO);
            let _ = tcsetattr(stdin, OptionalActions::Flush, &quiet);
        }
        Self(before)
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let now = rustix::termios::OptionalActions::Now;
            let _ = rustix::termios::tcsetattr(rustix::stdio::stdin(), now, before);
        }
    }
}
