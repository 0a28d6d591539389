//! Who may call: judged by the socket's credentials, which the kernel vouches for, and nothing else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tonic::service::Interceptor;
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Status};

use crate::daemon::Daemon;

/// Judges each call's peer.
#[derive(Clone)]
pub(super) struct Judge {
    daemon: Arc<Daemon>,
    refused: Arc<Mutex<HashMap<u32, u64>>>,
}

impl Judge {
    pub(super) fn new(daemon: Arc<Daemon>) -> Self {
        Self { daemon, refused: Arc::default() }
    }

    pub(super) fn allows(&self, uid: u32, gid: u32) -> bool {
        let access = self.daemon.access.read().unwrap_or_else(PoisonError::into_inner);
        // The system call last: most callers are named.
        access.uids.contains(&uid) || access.gids.contains(&gid) || uid == own_uid()
    }

    /// The log is told of the first refusal, the second, the fourth and so on: nobody can flood it.
    fn tell(&self, uid: u32, gid: u32) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let count = refused.entry(uid).or_default();
        *count += 1;
        if count.is_power_of_two() {
            let who = name_of(uid).map_or_else(|| "somebody".into(), |name| format!("user {name}"));
            tracing::warn!(
                uid,
                gid,
                count,
                "refused {who} (uid {uid}, gid {gid}), whom [access] does not allow, {count} times so far"
            );
        }
    }
}

/// Who calls, as the kernel says: uid and gid.
fn peer<T>(request: &Request<T>) -> Option<(u32, u32)> {
    let peer = request.extensions().get::<UdsConnectInfo>()?.peer_cred?;
    Some((peer.uid(), peer.gid()))
}

/// Refuses whoever may use secrets, and is neither root nor psid's own user: keys, every workload's
/// registrations, and what the whole host depends on are no affair of theirs.
pub(super) fn owner_only<T>(request: &Request<T>) -> Result<(), Status> {
    match peer(request) {
        Some((uid, _)) if uid == 0 || uid == own_uid() => Ok(()),
        _ => Err(Status::permission_denied(
            "[access] lets you use secrets, and this is for root and psid's own user; ask root",
        )),
    }
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

impl Interceptor for Judge {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let (uid, gid) = peer(&request).ok_or_else(|| {
            Status::permission_denied("the kernel does not say who you are; use the unix socket")
        })?;
        if self.allows(uid, gid) {
            return Ok(request);
        }
        self.tell(uid, gid);
        Err(Status::permission_denied(format!(
            "uid {uid} (gid {gid}) may not use this psid; add it to allow_uids or allow_gids in [access]"
        )))
    }
}

/// The user's name in `/etc/passwd`. One of a directory service has a number only: psid waits for none.
fn name_of(uid: u32) -> Option<String> {
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    name_in(&passwd, uid).map(str::to_owned)
}

fn name_in(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, id) = (fields.next()?, fields.nth(1)?);
        (id.parse() == Ok(uid)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::name_in;

    #[test]
    fn a_user_is_found_by_the_third_field() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\nanna:x:1000:7::/home/anna:/bin/sh\n";
        assert_eq!(name_in(passwd, 0), Some("root"));
        assert_eq!(name_in(passwd, 1000), Some("anna"));
        assert_eq!(name_in(passwd, 7), None);
    }
}
