//! The flags, as far as each is right or wrong by itself: checked before anything is asked, read or written.

use std::path::Path;

use psi_common::Exit;

use super::checks::{is_absolute, is_line, is_project_name, is_url, is_uuid, is_workload};
use super::login;
use super::secrets::{KNOWN, KnownSecret};
use crate::ctl::args::SetUpHostOptions;
use crate::error::CliError;

/// Checks the flags.
pub(super) fn check(options: &SetUpHostOptions) -> Result<(), CliError> {
    if let Some((flag, why)) = fault(options) {
        return Err(CliError::new(
            Exit::BadInput,
            format!("{flag}: {why}"),
            "correct it, nothing was changed",
        ));
    }
    if let Some(method) = options.provider.method {
        login::are_of(method, &options.provider)?;
    }
    let is_stdin = |known: &&KnownSecret| known.file(options) == Some(Path::new("-"));
    let of_stdin: Vec<&str> = KNOWN.iter().filter(is_stdin).map(|known| known.flag).collect();
    match of_stdin.as_slice() {
        [] | [_] => Ok(()),
        several => Err(CliError::new(
            Exit::Usage,
            format!("{} all name stdin, which is read once", several.join(", ")),
            "give files for all but one",
        )),
    }
}

/// The first flag that is wrong by itself.
fn fault(options: &SetUpHostOptions) -> Option<(&'static str, String)> {
    let (provider, key) = (&options.provider, &options.key);
    let texts: [(&str, Option<&String>, login::TextCheck); 3] = [
        ("--api-url", provider.api_url.as_ref(), is_url),
        ("--login-url", provider.login_url.as_ref(), is_url),
        ("--token-label", key.token_label.as_ref(), is_line),
    ];
    let texts =
        texts.into_iter().find_map(|(flag, given, check)| Some((flag, check(given?).err()?)));
    let module = key.pkcs11_module.as_ref().map(|path| is_absolute(&path.display().to_string()));
    let module = module.and_then(|checked| Some(("--pkcs11-module", checked.err()?)));
    texts.or_else(|| login::fault(provider)).or(module).or_else(|| of_project(options))
}

fn of_project(options: &SetUpHostOptions) -> Option<(&'static str, String)> {
    let project = options.project.as_ref();
    let wrong = project.and_then(|project| {
        is_project_name(&project.name).and_then(|()| is_uuid(&project.id)).err()
    });
    if let Some(why) = wrong {
        return Some(("--project", why));
    }
    let name = project.map_or("", |project| project.name.as_str());
    let wrong = options.workload.iter().find_map(|workload| is_workload(workload, name).err());
    wrong.map(|why| ("--workload", why))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: SetUpHostOptions,
    }

    fn refused(args: &[&str]) -> CliError {
        let line = Line::try_parse_from([&["init"][..], args].concat()).unwrap();
        check(&line.options).unwrap_err()
    }

    #[test]
    fn first_wrong_flag_is_named() {
        for (args, flag) in [
            (&["--api-url", "infisical"][..], "--api-url: "),
            (&["--login-url", "infisical"], "--login-url: "),
            (&["--pkcs11-module", "m.so"], "--pkcs11-module: "),
            (&["--client-id", "a b"], "--client-id: "),
            (&["--project", "p=my-project:prod"], "--project: "),
            (&["--workload", "a.service=p:/a"], "--workload: "),
        ] {
            let error = refused(args);
            assert_eq!(error.exit(), Exit::BadInput);
            assert!(error.to_string().starts_with(flag), "{error}");
        }
    }

    #[test]
    fn stdin_is_one_secret_only() {
        let error = refused(&["--client-secret-file", "-", "--pin-file", "-"]);
        assert_eq!(error.exit(), Exit::Usage);
        let text = error.to_string();
        assert!(text.starts_with("--client-secret-file, --pin-file all name stdin"), "{text}");
        let line = Line::try_parse_from(["init", "--client-secret-file", "-"]).unwrap();
        assert!(check(&line.options).is_ok());
    }

    #[test]
    fn method_has_its_own_flags() {
        let error = refused(&["--method", "oidc", "--access-token-file", "/t"]);
        assert_eq!(error.exit(), Exit::Usage);
        assert!(error.to_string().contains("the login method is oidc"), "{error}");
    }
}
