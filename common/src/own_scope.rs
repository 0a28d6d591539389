//! Adapts the commands in messages to this process's scope.

use std::borrow::Cow;
use std::sync::OnceLock;

use crate::Scope;

static IS_USER: OnceLock<bool> = OnceLock::new();

/// Sets the scope of this process where its uid does not show it: the system's psid runs as its own user.
pub fn set_own_scope(is_user: bool) {
    // The first call decides; a process has one scope.
    let _ = IS_USER.set(is_user);
}

/// A message whose `systemctl` and `journalctl` commands address the units of this process's scope: a user's
/// psid is a unit of that user's manager.
pub fn for_own_scope(message: &str) -> Cow<'_, str> {
    let is_user = *IS_USER.get_or_init(|| Scope::of_this_process() != Scope::System);
    if is_user { for_user(message).into() } else { message.into() }
}

/// Only psid's own units belong to the user's manager; its helper and other units are the system's.
fn for_user(message: &str) -> String {
    let of_psid = |command: &str| {
        let mut words = command.split_whitespace();
        let is_manager = matches!(words.next(), Some("systemctl" | "journalctl"));
        let mut units = words.filter(|word| !word.starts_with('-'));
        is_manager && units.any(|word| ["psid", "psid.service", "psid.socket"].contains(&word))
    };
    let mut text = String::with_capacity(message.len() + 16);
    for (number, part) in message.split('`').enumerate() {
        if number > 0 {
            text.push('`');
        }
        match part.split_once(' ') {
            // Every odd part is between backticks.
            Some((command, rest))
                if number % 2 == 1 && of_psid(part) && !rest.starts_with("--user ") =>
            {
                text.extend([command, " --user ", rest]);
            }
            _ => text.push_str(part),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::for_user;

    #[test]
    fn commands_of_systemd_get_the_users_flag_once() {
        for (message, expected) in [
            ("start it, `systemctl start psid`", "start it, `systemctl --user start psid`"),
            ("`systemctl --user start psid`", "`systemctl --user start psid`"),
            ("see `journalctl -u psid`, run it", "see `journalctl --user -u psid`, run it"),
            ("the systemctl of others", "the systemctl of others"),
            ("`systemctl start psid-creds.socket`", "`systemctl start psid-creds.socket`"),
            ("`systemctl enable --now pcscd.socket`", "`systemctl enable --now pcscd.socket`"),
            ("`a`, `systemctl reload psid` and `", "`a`, `systemctl --user reload psid` and `"),
        ] {
            assert_eq!(for_user(message), expected);
        }
    }
}
