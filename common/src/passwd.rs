//! The users of `/etc/passwd`. Those of a directory service are not included, because a query could block.

use std::io;
use std::path::PathBuf;

const FILE: &str = "/etc/passwd";

/// A user of `/etc/passwd`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The login name.
    pub name: String,
    /// The numeric id.
    pub uid: u32,
    /// The numeric id of the primary group.
    pub gid: u32,
    /// The home directory, as it is written there.
    pub home: PathBuf,
}

impl User {
    /// Whether a text means this user, by its name or its uid, as systemd's `User=`.
    pub fn is_meant_by(&self, name_or_uid: &str) -> bool {
        self.name == name_or_uid || self.uid.to_string() == name_or_uid
    }

    /// The directory of the user's own quadlets (podman-systemd.unit(5)).
    pub fn quadlets(&self) -> PathBuf {
        self.home.join(".config/containers/systemd")
    }
}

/// Every user of `/etc/passwd`, in the order of its lines; malformed lines are skipped.
pub fn users() -> io::Result<Vec<User>> {
    std::fs::read_to_string(FILE).map(|text| parse(&text).collect())
}

/// The name of a user, if `/etc/passwd` has one.
pub fn name_of(uid: u32) -> Option<String> {
    user(uid).map(|user| user.name)
}

/// The home directory of a user, if `/etc/passwd` has one.
pub fn home_of(uid: u32) -> Option<PathBuf> {
    user(uid).map(|user| user.home)
}

fn user(uid: u32) -> Option<User> {
    users().ok()?.into_iter().find(|user| user.uid == uid)
}

/// Lines of `name:password:uid:gid:comment:home:shell` (passwd(5)).
fn parse(text: &str) -> impl Iterator<Item = User> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, uid) = (fields.next()?, fields.nth(1)?.parse().ok()?);
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1)?.into();
        Some(User { name: name.to_owned(), uid, gid, home })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_have_names_uids_and_homes_and_malformed_lines_are_skipped() {
        let text = "root:x:0:0:root:/root:/bin/sh\nbroken\nx:x:-1:0::/:/\n\
                    anna:x:1000:7::/home/anna:/bin/sh\n";
        let users: Vec<_> = parse(text).collect();
        let user = |name: &str, uid, gid, home: &str| User {
            name: name.into(),
            uid,
            gid,
            home: home.into(),
        };
        assert_eq!(users, [user("root", 0, 0, "/root"), user("anna", 1000, 7, "/home/anna")]);
    }

    #[test]
    fn root_has_a_name() {
        assert_eq!(name_of(0).as_deref(), Some("root"));
        assert_eq!(home_of(0), Some(PathBuf::from("/root")));
        assert!(users().unwrap().iter().any(|user| user.uid == 0));
    }
}
