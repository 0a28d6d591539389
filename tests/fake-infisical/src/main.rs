//! `fake-infisical`: see the crate documentation and README.md.

use std::process::ExitCode;

fn main() -> ExitCode {
    match fake_infisical::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fake-infisical: {error}");
            ExitCode::FAILURE
        }
    }
}
