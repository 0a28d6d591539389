//! `psictl login`: what the server, each login and each source answer. The running psid asks with its own config;
//! without one, psid is run to do the same.

use psi_common::{Exit, OnlineReport, Paths};
use psi_proto::v1::LoginRequest;
use serde::Serialize;

use super::{config_in_force, json, psid};
use crate::client::{Client, Deadline};
use crate::ctl::args::LoginOptions;
use crate::error::CliError;
use crate::stdio;

#[derive(Serialize)]
struct Report<'a> {
    well: bool,
    #[serde(flatten)]
    online: &'a OnlineReport,
}

pub(crate) fn run(paths: &Paths, options: &LoginOptions) -> Result<(), CliError> {
    let provider = options.provider.clone().unwrap_or_default();
    let request = LoginRequest { provider, retry: options.retry };
    match Client::new(paths, Deadline::Admin).login(&request) {
        Ok(report) => {
            let well = report.summary().is_none();
            let text = match options.json {
                true => json::text(&Report { well, online: &report }),
                false => report.to_string(),
            };
            stdio::write_text(&text)?;
            result(&report)?;
            config_in_force::check(paths)
        }
        Err(down) if down.exit() == Exit::NoDaemon => without_daemon(paths, options),
        Err(failure) => Err(failure),
    }
}

fn without_daemon(paths: &Paths, options: &LoginOptions) -> Result<(), CliError> {
    let mut args = vec!["check", "--online"];
    if let Some(provider) = &options.provider {
        args.extend(["--provider", provider]);
    }
    let flags = [(options.retry, "--retry"), (options.json, "--json")];
    args.extend(flags.into_iter().filter_map(|(asked, flag)| asked.then_some(flag)));
    psid::run(paths, &args)
}

fn result(report: &OnlineReport) -> Result<(), CliError> {
    match report.summary() {
        None => Ok(()),
        Some(problem) => Err(CliError::new(report.exit(), problem.what, problem.remedy)),
    }
}
