//! systemd's units of psid: the system's, or the user's own.

use std::path::Path;

use psi_common::{Exit, Scope, passwd};

use crate::ctl::systemctl;
use crate::error::CliError;

const SERVICE: &str = "psid.service";

/// The service manager that runs psid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Manager {
    is_user: bool,
}

impl Manager {
    /// The manager of the scope; `None` where systemd does not run, as in a container (sd_booted(3)).
    pub(super) fn of(scope: Scope) -> Option<Self> {
        let is_user = scope != Scope::System;
        Path::new("/run/systemd/system").is_dir().then_some(Self { is_user })
    }

    /// Asks the manager of a user for an answer: without a session of that user's own, as after `su`, there is none.
    pub(super) fn has_session(self, scope: Scope) -> Result<(), CliError> {
        let Scope::User { uid } = scope else { return Ok(()) };
        self.call(&["show-environment"]).map(|_| ()).map_err(|why| {
            let name = passwd::name_of(uid).unwrap_or_else(|| uid.to_string());
            CliError::new(
                Exit::BadInput,
                format!("the user's systemd, which runs psid, does not answer: {why}"),
                format!(
                    "log in as {name} by ssh, at the console or with `machinectl shell {name}@`, not by su or sudo, \
                     and run it there; `loginctl enable-linger {name}` keeps that systemd running"
                ),
            )
        })
    }

    /// The units to enable and start.
    pub(super) fn units(self) -> &'static [&'static str] {
        if self.is_user {
            &["psid.socket", SERVICE]
        } else {
            &["psid.socket", "psid-creds.socket", SERVICE]
        }
    }

    /// `systemctl ARGS`, for messages.
    pub(super) fn command(self, args: &[&str]) -> String {
        let user = if self.is_user { " --user" } else { "" };
        format!("systemctl{user} {}", args.join(" "))
    }

    /// The command that shows the log of a unit.
    pub(super) fn journal(self, unit: &str) -> String {
        format!("journalctl{} -u {unit} -n 20", if self.is_user { " --user" } else { "" })
    }

    pub(super) fn is_active(self) -> bool {
        self.call(&["is-active", "--quiet", SERVICE]).is_ok()
    }

    pub(super) fn is_enabled(self) -> bool {
        self.call(&[&["is-enabled", "--quiet"], self.units()].concat()).is_ok()
    }

    /// Runs systemctl; `Err` is its message.
    pub(super) fn call(self, args: &[&str]) -> Result<String, String> {
        let user: &[&str] = if self.is_user { &["--user"] } else { &[] };
        systemctl::call(&[user, args].concat())
    }

    /// Whether a unit is active, and since when, in seconds of the wall clock.
    pub(super) fn active_since(self, unit: &str) -> Option<u64> {
        let args =
            ["show", "--timestamp=unix", "--property=ActiveState,ActiveEnterTimestamp", unit];
        active_since(&self.call(&args).ok()?)
    }

    /// What psid's unit says of itself.
    pub(super) fn status_text(self) -> Option<String> {
        let text = self.call(&["show", "--property=StatusText", "--value", SERVICE]).ok()?;
        (!text.is_empty()).then_some(text)
    }
}

fn active_since(shown: &str) -> Option<u64> {
    let value = |name| shown.lines().find_map(|line| line.strip_prefix(name));
    value("ActiveState=").filter(|state| *state == "active")?;
    value("ActiveEnterTimestamp=@")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn active_since_is_of_an_active_unit() {
        let shown = |state| format!("ActiveState={state}\nActiveEnterTimestamp=@1700000000");
        assert_eq!(active_since(&shown("active")), Some(1_700_000_000));
        assert_eq!(active_since(&shown("inactive")), None);
        assert_eq!(active_since("ActiveState=active\nActiveEnterTimestamp="), None);
    }

    #[test]
    fn a_user_s_units_belong_to_the_user_s_manager() {
        let user = Manager { is_user: true };
        assert_eq!(user.command(&["stop", SERVICE]), "systemctl --user stop psid.service");
        assert!(!user.units().contains(&"psid-creds.socket"));
        let system = Manager { is_user: false };
        assert_eq!(system.command(&["stop", SERVICE]), "systemctl stop psid.service");
        assert_eq!(system.units().len(), 3);
    }
}
