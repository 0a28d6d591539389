//! Runs systemctl(1).

use std::process::{Command, Stdio};

/// Its output; `Err` is the first line of its message.
pub(super) fn call(args: &[&str]) -> Result<String, String> {
    let output = Command::new("systemctl").args(args).stdin(Stdio::null()).output();
    let output = output.map_err(|cause| format!("running systemctl: {cause}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let line = stderr.lines().find(|line| !line.trim().is_empty());
    Err(line
        .map_or_else(|| output.status.to_string(), |line| line.trim_end_matches('.').to_owned()))
}
