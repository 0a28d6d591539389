//! The way from psi-driver to psictl, which has every other command.

use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use psi_common::Exit;

use crate::error::CliError;

/// Replaces this process by the `psictl` in this program's own directory, with the same arguments. It returns
/// only an error.
///
/// No variable chooses the program: it runs as root.
pub(crate) fn exec(args: &[OsString]) -> CliError {
    let own = match std::env::current_exe() {
        Ok(own) => own,
        Err(cause) => return CliError::io("reading /proc/self/exe", &cause, "mount /proc"),
    };
    let psictl = own.with_file_name("psictl");
    match exec_at(&psictl, args) {
        Ok(never) => match never {},
        Err(cause) => CliError::new(
            Exit::NoDaemon,
            format!("running {}: {}", psictl.display(), cause.desc()),
            "install the package psid, which has psictl",
        ),
    }
}

fn exec_at(psictl: &Path, args: &[OsString]) -> nix::Result<Infallible> {
    let c_string = |bytes: Vec<u8>| CString::new(bytes).map_err(|_| nix::Error::EINVAL);
    let mut argv = vec![c_string(b"psictl".to_vec())?];
    for arg in args.iter().skip(1) {
        argv.push(c_string(arg.clone().into_vec())?);
    }
    nix::unistd::execv(&c_string(psictl.as_os_str().as_bytes().to_vec())?, &argv)
}
