//! The choices, from flags and from a terminal.

use psi_common::{Exit, SealMode};

use super::checks::{
    is_absolute, is_line, is_one_word, is_path, is_project_name, is_url, is_uuid, is_workload_name,
};
use super::choices::{Choices, KeyChoice, TokenArgs};
use super::flags;
use super::terminal::Terminal;
use crate::ctl::args::{Backend, KeyArgs, ProjectArg, SetUpHostOptions, WorkloadArg};
use crate::error::CliError;

const API_URL: &str = "https://app.infisical.com";

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
        flags::check(self.options)?;
        let provider = &self.options.provider;
        let api_url = self.api_url()?;
        let login = self.login()?;
        let project = self.project()?;
        let workloads = self.workloads(&project.name)?;
        let key = self.key();
        let needs_token = key == KeyChoice::Token || login.is_on_token();
        let token = needs_token.then(|| self.token()).transpose()?;
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
        Ok(Choices { api_url, allow_http, ca_cert, login, project, workloads, key, token })
    }

    /// A flag, or the answer to a question.
    pub(super) fn answer(
        &mut self,
        flag: (&'static str, Option<&str>),
        question: &str,
        default: Option<&str>,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> Result<String, CliError> {
        let (name, given) = flag;
        // An answer is asked for again, a flag is not.
        if let (Some(given), None) = (given, &self.previous) {
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

    fn project(&mut self) -> Result<ProjectArg, CliError> {
        if let (Some(project), None) = (&self.options.project, &self.previous) {
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

    fn key(&self) -> KeyChoice {
        let key = &self.options.key;
        if key.backend == Some(Backend::Hsm) {
            return KeyChoice::Token;
        }
        let default = if self.is_user { SealMode::Auto } else { SealMode::Tpm2 };
        let previous = match self.previous.as_ref().map(|choices| &choices.key) {
            Some(KeyChoice::Sealed(mode)) => Some(*mode),
            _ => None,
        };
        KeyChoice::Sealed(key.seal_with.or(previous).unwrap_or(default))
    }

    /// The token.
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

#[cfg(test)]
mod tests {
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
}
