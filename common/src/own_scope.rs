//! Commands in messages, as they are for this process's scope.

use std::borrow::Cow;
use std::sync::OnceLock;

use crate::Scope;

static IS_USER: OnceLock<bool> = OnceLock::new();

/// A message whose `systemctl` and `journalctl` reach the units of this process's own scope: a user's psid is
/// a unit of that user's manager.
pub fn for_own_scope(message: &str) -> Cow<'_, str> {
    let is_user = *IS_USER.get_or_init(|| Scope::of_this_process() != Scope::System);
    if is_user { for_user(message).into() } else { message.into() }
}

fn for_user(message: &str) -> String {
    let mut text = message.to_owned();
    for command in ["`systemctl ", "`journalctl "] {
        let with = format!("{command}--user ");
        text = text.replace(&with, command).replace(command, &with);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::for_user;

    #[test]
    fn commands_of_systemd_get_the_users_flag_once() {
        for (given, wanted) in [
            ("start it, `systemctl start psid`", "start it, `systemctl --user start psid`"),
            ("`systemctl --user start psid`", "`systemctl --user start psid`"),
            ("see `journalctl -u psid`, run it", "see `journalctl --user -u psid`, run it"),
            ("the systemctl of others", "the systemctl of others"),
        ] {
            assert_eq!(for_user(given), wanted);
        }
    }
}
