//! The choices, from flags and from a terminal.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use psi_common::{Exit, SealMode, SecretBytes};

use super::checks::{
    is_absolute, is_line, is_one_word, is_path, is_project_name, is_url, is_uuid, is_workload,
    is_workload_name,
};
use super::choices::{ACCESS_TOKEN, Choices, KeyChoice, Login, PIN, TokenArgs};
use super::terminal::Terminal;
use crate::ctl::args::{Backend, KeyArgs, LoginMethod, ProjectArg, SetUpHostOptions, WorkloadArg};
use crate::error::CliError;
use crate::stdio;

const API_URL: &str = "https://app.infisical.com";
/// Far more than a client secret or a PIN.
const MAX_SECRET: u64 = 32 << 10;

/// Asks at the terminal for what the flags lack; without a terminal, that is an error which names all of it.
pub(super) struct Gather<'a> {
    pub(super) options: &'a SetUpHostOptions,
    pub(super) terminal: Option<&'a Terminal>,
    /// The answers of the last time, which the terminal offers again.
    pub(super) previous: Option<Choices>,
    /// Whether there are credentials of a user.
    pub(super) is_user: bool,
    /// The flags that are missing.
    pub(super) missing: Vec<&'static str>,
}

impl Gather<'_> {
    /// The choices of a new config.
    pub(super) fn choices(mut self) -> Result<Choices, CliError> {
        let provider = &self.options.provider;
        let api_url = self.api_url()?;
        let login = self.login()?;
        let project = self.project()?;
        let workloads = self.workloads(&project.name)?;
        let key = self.key()?;
        if !self.missing.is_empty() {
            let flags = self.missing.join(", ");
            let verb = if self.missing.len() == 1 { "is" } else { "are" };
            return Err(CliError::new(
                Exit::Usage,
                format!("{flags} {verb} missing, and there is no terminal to ask at"),
                "see the examples in psictl-init(1)",
            ));
        }
        let (allow_http, ca_cert) = (provider.allow_http, provider.ca_cert.clone());
        Ok(Choices { api_url, allow_http, ca_cert, login, project, workloads, key })
    }

    /// A flag, or the answer to a question.
    fn answer(
        &mut self,
        flag: (&'static str, Option<&str>),
        question: &str,
        default: Option<&str>,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> Result<String, CliError> {
        let (name, given) = flag;
        // An answer is asked for again, a flag is not.
        if let (Some(given), None) = (given, &self.previous) {
            check(given).map_err(|why| wrong_flag(name, &why))?;
            return Ok(given.to_owned());
        }
        match (self.terminal, default) {
            (Some(terminal), _) => terminal.ask(question, default.or(given), check),
            (None, Some(default)) => Ok(default.to_owned()),
            (None, None) => {
                self.missing.push(name);
                Ok(String::new())
            }
        }
    }

    fn api_url(&mut self) -> Result<String, CliError> {
        let previous = self.previous.as_ref().map(|choices| choices.api_url.clone());
        let default = previous.unwrap_or_else(|| API_URL.into());
        let flag = ("--api-url", self.options.provider.api_url.as_deref());
        self.answer(flag, "Infisical's URL", Some(&default), is_url)
    }

    fn login(&mut self) -> Result<Login, CliError> {
        let provider = &self.options.provider;
        let method = match (provider.method, self.terminal) {
            (Some(method), _) => method,
            (None, Some(terminal)) if provider.client_id.is_none() => {
                let names = LoginMethod::ALL.map(LoginMethod::name).join(", ");
                let question = format!("Login method ({names})");
                let default = Some(LoginMethod::UniversalAuth.name());
                method_of(&terminal.ask(&question, default, |name| {
                    method_of(name).map(|_| ()).ok_or_else(|| format!("one of {names}"))
                })?)
                .unwrap_or(LoginMethod::UniversalAuth)
            }
            _ => LoginMethod::UniversalAuth,
        };
        if method == LoginMethod::UniversalAuth {
            let previous = match self.previous.as_ref().map(|choices| &choices.login) {
                Some(Login::Universal { client_id }) => Some(client_id.clone()),
                _ => None,
            };
            let flag = ("--client-id", provider.client_id.as_deref());
            let question = "Client ID of the machine identity";
            let client_id = self.answer(flag, question, previous.as_deref(), is_one_word)?;
            return Ok(Login::Universal { client_id });
        }
        if method == LoginMethod::Token {
            return Ok(Login::AccessToken);
        }
        let flag = ("--identity-id", provider.identity_id.as_deref());
        let identity_id = self.answer(flag, "ID of the machine identity", None, is_one_word)?;
        let mut token_file = provider.token_file.clone();
        if method.needs_token_file() {
            let given = token_file.as_ref().map(|path| path.display().to_string());
            let flag = ("--token-file", given.as_deref());
            token_file = Some(self.answer(flag, "File of the token", None, is_absolute)?.into());
        }
        Ok(Login::Identity { method, identity_id, token_file })
    }

    fn project(&mut self) -> Result<ProjectArg, CliError> {
        if let (Some(project), None) = (&self.options.project, &self.previous) {
            let wrong = |why: String| wrong_flag("--project", &why);
            is_project_name(&project.name).map_err(wrong)?;
            is_uuid(&project.id).map_err(wrong)?;
            return Ok(project.clone());
        }
        let Some(terminal) = self.terminal else {
            self.missing.push("--project");
            return Ok(ProjectArg {
                name: String::new(),
                id: String::new(),
                environment: String::new(),
            });
        };
        let previous = self
            .previous
            .as_ref()
            .map(|choices| &choices.project)
            .or(self.options.project.as_ref());
        let id = terminal.ask(
            "Project ID (Infisical: project settings)",
            previous.map(|project| project.id.as_str()),
            is_uuid,
        )?;
        let environment = previous.map_or("prod", |project| project.environment.as_str());
        let environment = terminal.ask("Environment's slug", Some(environment), is_one_word)?;
        let name = previous.map_or("myproject", |project| project.name.as_str());
        let name =
            terminal.ask("Name of the project in psi's config", Some(name), is_project_name)?;
        Ok(ProjectArg { name, id, environment })
    }

    fn workloads(&mut self, project: &str) -> Result<Vec<WorkloadArg>, CliError> {
        for workload in &self.options.workload {
            is_workload(workload, project).map_err(|why| wrong_flag("--workload", &why))?;
        }
        let asks = self.options.workload.is_empty() || self.previous.is_some();
        let (Some(terminal), true) = (self.terminal, asks) else {
            return Ok(self.options.workload.clone());
        };
        let previous = self.previous.as_ref().and_then(|choices| choices.workloads.first());
        let given = self.options.workload.first();
        let previous = previous.or(given);
        let question = "Name of a container's unit that gets secrets, as myapp of myapp.container (empty: none yet)";
        let default = previous.map_or("", |workload| workload.name.as_str());
        let name = terminal.ask(question, Some(default), |name| match name {
            "" => Ok(()),
            name => is_workload_name(name),
        })?;
        if name.is_empty() {
            return Ok(Vec::new());
        }
        let default = previous.map_or_else(|| format!("/{name}"), |workload| workload.path.clone());
        let question = "Directory of its secrets at Infisical";
        let path = terminal.ask(question, Some(&default), is_path)?;
        Ok(vec![WorkloadArg { name, project: project.into(), path }])
    }

    fn key(&mut self) -> Result<KeyChoice, CliError> {
        let key = &self.options.key;
        if key.backend == Some(Backend::Hsm) {
            return Ok(KeyChoice::Token(self.token()?));
        }
        let default = if self.is_user { SealMode::Auto } else { SealMode::Tpm2 };
        let previous = match self.previous.as_ref().map(|choices| &choices.key) {
            Some(KeyChoice::Sealed(mode)) => Some(*mode),
            _ => None,
        };
        Ok(KeyChoice::Sealed(key.seal_with.or(previous).unwrap_or(default)))
    }

    /// The token of `--backend hsm`.
    pub(super) fn token(&mut self) -> Result<TokenArgs, CliError> {
        let KeyArgs { pkcs11_module, token_label, key_label, .. } = &self.options.key;
        let module = pkcs11_module.as_ref().map(|path| path.display().to_string());
        let flag = ("--pkcs11-module", module.as_deref());
        let module = self.answer(flag, "PKCS#11 module, an absolute path", None, is_absolute)?;
        let flag = ("--token-label", token_label.as_deref());
        let label = self.answer(flag, "Label of the token (`pkcs11-tool -L`)", None, is_line)?;
        Ok(TokenArgs { module: module.into(), label, key_label: key_label.clone() })
    }
}

/// The secrets that the config's credentials need: from a file or stdin, the one that is sealed already, or from the
/// terminal.
pub(super) fn secret(
    file: Option<&Path>,
    (name, flag): (&'static str, &'static str),
    sealed: Option<SecretBytes>,
    terminal: Option<&Terminal>,
) -> Result<SecretBytes, CliError> {
    let question = match name {
        PIN => "User PIN of the token",
        ACCESS_TOKEN => "Access token",
        _ => "Client secret",
    };
    let given = match (file, sealed, terminal) {
        (Some(file), _, _) => read_secret(file)?,
        (None, Some(sealed), None) => return Ok(sealed),
        (None, sealed, Some(terminal)) => {
            let hint =
                if sealed.is_some() { " (empty: the one that is sealed already)" } else { "" };
            let typed = terminal.ask_secret(&format!("{question}{hint}"), sealed.is_some())?;
            match (typed, sealed) {
                (Some(typed), _) => typed,
                (None, Some(sealed)) => return Ok(sealed),
                (None, None) => SecretBytes::new(Vec::new()),
            }
        }
        (None, None, None) => {
            return Err(CliError::new(
                Exit::Usage,
                format!("{flag} is missing, and there is no terminal to ask at"),
                format!("give a file of mode 0600, or - for stdin: it is sealed as {name}"),
            ));
        }
    };
    let trimmed = given.expose_secret().trim_ascii_end();
    if trimmed.is_empty() {
        let what = match name {
            PIN => "the PIN is empty",
            ACCESS_TOKEN => "the access token is empty",
            _ => "the client secret is empty",
        };
        return Err(CliError::new(Exit::BadInput, what, format!("write it to the file of {flag}")));
    }
    Ok(SecretBytes::new(trimmed.to_vec()))
}

fn read_secret(file: &Path) -> Result<SecretBytes, CliError> {
    if file == Path::new("-") {
        return stdio::read_value();
    }
    let failed = |cause| {
        let doing = format!("reading {}", file.display());
        CliError::io(&doing, &cause, "name the file that holds the secret")
            .with_exit(Exit::BadInput)
    };
    let opened = File::open(file).map_err(failed)?;
    let mut bytes = Vec::with_capacity(usize::try_from(MAX_SECRET).unwrap_or_default() + 1);
    opened.take(MAX_SECRET).read_to_end(&mut bytes).map_err(failed)?;
    Ok(SecretBytes::new(bytes))
}

fn wrong_flag(name: &str, why: &str) -> CliError {
    CliError::new(Exit::BadInput, format!("{name}: {why}"), "correct it, nothing was changed")
}

fn method_of(name: &str) -> Option<LoginMethod> {
    LoginMethod::ALL.into_iter().find(|method| method.name() == name)
}

#[cfg(test)]
mod tests {
    use super::super::choices::CLIENT_SECRET;
    use super::*;

    #[test]
    fn missing_flags_are_named_together() {
        let options = SetUpHostOptions::default();
        let (terminal, previous, missing) = (None, None, Vec::new());
        let gather = Gather { options: &options, terminal, previous, is_user: false, missing };
        let error = gather.choices().unwrap_err();
        assert_eq!(error.exit(), Exit::Usage);
        let expected = "--client-id, --project are missing, and there is no terminal to ask at";
        assert!(error.to_string().starts_with(expected), "{error}");
    }

    #[test]
    fn secret_is_read_without_its_line_end() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("secret");
        let ask = || secret(Some(&file), (CLIENT_SECRET, "--client-secret-file"), None, None);
        assert_eq!(ask().unwrap_err().exit(), Exit::BadInput);
        std::fs::write(&file, "s3cret\r\n").unwrap();
        assert_eq!(ask().unwrap().expose_secret(), b"s3cret");
        std::fs::write(&file, "\n").unwrap();
        assert!(ask().unwrap_err().to_string().contains("the client secret is empty"));
    }
}
