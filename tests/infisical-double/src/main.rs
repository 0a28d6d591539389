//! `infisical-double`: see the crate documentation and README.md.

use std::process::ExitCode;

fn main() -> ExitCode {
    match infisical_double::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("infisical-double: {error}");
            ExitCode::FAILURE
        }
    }
}
