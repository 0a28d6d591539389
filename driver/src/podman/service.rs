//! `podman system service`, for as long as it is needed: one podman that stays, in place of one for each call.
//! It has the environment, the config and the store that the command has.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::api::Api;

/// A podman that is not there by then is worth no more waiting.
const STARTS: Duration = Duration::from_secs(5);

/// A running service; it ends with the value.
pub(super) struct Service {
    child: Child,
    /// Whoever reaches its socket is root to podman: the folder is for nobody else.
    _folder: TempDir,
}

impl Service {
    /// Starts one; none, when podman does not serve here.
    pub(super) fn start() -> Option<(Api, Self)> {
        let folder = tempfile::Builder::new().prefix("psi-").tempdir().ok()?;
        let socket = folder.path().join("podman.sock");
        let mut command = Command::new("podman");
        command.args(["system", "service", "--time=0"]);
        command.arg(format!("unix://{}", socket.display()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let service = Self { child: command.spawn().ok()?, _folder: folder };
        Some((Api::await_at(&socket, STARTS)?, service))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It holds nothing: podman's records are written before it answers.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
