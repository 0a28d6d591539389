//! `psictl`: the admin's program.

use std::process::ExitCode;

fn main() -> ExitCode {
    psi_driver::run_ctl(std::env::args_os())
}
