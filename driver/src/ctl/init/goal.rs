//! What is to be there at the end: the config that lies there, or the one of the choices; its credentials; its key.

use psi_common::{Exit, Scope, SealMode, SecretBytes};

use super::choices::{Choices, GivenSecrets, KeyChoice};
use super::config_text::{ACCESS_TOKEN, CLIENT_KEY, CLIENT_SECRET, PIN};
use super::gather::Gather;
use super::host::ConfigFile;
use super::plan::{ConfigState, Credential, Target};
use super::psid_child::LoginSecrets;
use super::secrets::KNOWN;
use super::settings::Settings;
use super::{Session, StepKind, plan};
use crate::ctl::args::Backend;
use crate::ctl::seal::{self, SealFlags, SealWish};
use crate::error::CliError;

/// What is to be there.
pub(super) struct Goal {
    /// The config's text.
    pub(super) text: String,
    pub(super) settings: Settings,
    pub(super) config: ConfigState,
    /// The choices of a new config.
    pub(super) choices: Option<Choices>,
    pub(super) secrets: GivenSecrets,
    /// How credentials are sealed.
    pub(super) wish: SealWish,
    sealed_to: String,
    key_sealed_to: String,
    /// What the TPM lacks although it seals.
    pub(super) tpm_note: Option<String>,
    credentials: Vec<Credential>,
}

impl Goal {
    /// The goal of a session; `previous` are answers that were refused.
    pub(super) fn of(session: &Session<'_>, previous: Option<Choices>) -> Result<Self, CliError> {
        let is_retry = previous.is_some();
        let mut goal = match (&session.host.config, session.names_a_config()) {
            (ConfigFile::Written(text), false) => Self::with(text.clone(), ConfigState::Kept, None),
            (ConfigFile::Written(text), true) => {
                let choices = session.gather(None).choices()?;
                session.is_the_same(text, &choices)?;
                Self::with(text.clone(), ConfigState::Kept, None)
            }
            (ConfigFile::Missing, _) => Self::new_config(session, previous, ConfigState::Missing)?,
            (ConfigFile::Template, _) => {
                Self::new_config(session, previous, ConfigState::Template)?
            }
        };
        goal.take_secrets(session, is_retry)?;
        goal.choose_seal(session)?;
        Ok(goal)
    }

    fn new_config(
        session: &Session<'_>,
        previous: Option<Choices>,
        config: ConfigState,
    ) -> Result<Self, CliError> {
        let choices = session.gather(previous).choices()?;
        Ok(Self::with(choices.to_toml(), config, Some(choices)))
    }

    fn with(text: String, config: ConfigState, choices: Option<Choices>) -> Self {
        Self {
            settings: Settings::of(&text),
            text,
            config,
            choices,
            secrets: GivenSecrets::default(),
            wish: SealWish::default(),
            sealed_to: String::new(),
            key_sealed_to: String::new(),
            tpm_note: None,
            credentials: Vec::new(),
        }
    }

    /// Reads the secrets of the config's credentials, and finds the ones that are sealed already.
    fn take_secrets(&mut self, session: &Session<'_>, is_retry: bool) -> Result<(), CliError> {
        let named: Vec<String> =
            self.settings.credentials().into_iter().map(str::to_owned).collect();
        for name in named {
            let sealed = session.host.sealed(session.paths, &name);
            let Some(known) = KNOWN.iter().find(|known| known.name == name) else {
                // Another name, of an admin's own config.
                if sealed.is_none() {
                    return Err(not_sealed(session, &name));
                }
                self.credentials.push(Credential { name, is_sealed: true });
                continue;
            };
            let (name, file) = (known.name, known.file(session.options));
            // One that is there is asked for only with a new config.
            let sealed = match (sealed, file, self.config) {
                (Some(sealed), None, ConfigState::Kept) => {
                    self.credentials.push(Credential { name: name.into(), is_sealed: true });
                    self.secrets.set(name, sealed);
                    continue;
                }
                (sealed, _, _) => sealed,
            };
            // What was refused is not read from the same file again.
            let file = file.filter(|_| !is_retry);
            let present =
                sealed.as_ref().map(|sealed| SecretBytes::new(sealed.expose_secret().to_vec()));
            let is_closed = sealed.is_none() && seal::path(session.paths, name).exists();
            let given = known.read(file, sealed, session.terminal.as_ref());
            let given = given.map_err(|failure| match failure.exit() {
                Exit::Usage if is_closed => does_not_open(session, name, known.flag),
                _ => failure,
            })?;
            let is_sealed = present.is_some_and(|present| present.same_as(&given));
            self.credentials.push(Credential { name: name.into(), is_sealed });
            self.secrets.set(name, given);
        }
        Ok(())
    }

    /// Finds out what can be sealed to, if something is to be sealed.
    fn choose_seal(&mut self, session: &Session<'_>) -> Result<(), CliError> {
        let is_host = self.settings.text("cache.seal_with") == Some("host");
        let default = is_host.then_some(SealMode::Host);
        let asked = session.options.key.seal_with.or(default);
        self.wish = SealWish { with_key: asked, pcrs: None };
        let target = self.target(session);
        let seals = |kind: &StepKind| match kind {
            StepKind::Seal(_) => true,
            StepKind::MakeKey => target.backend == Some(Backend::Tpm),
            _ => false,
        };
        if !plan(&target).iter().any(|step| seals(&step.kind) && step.done.is_none()) {
            return Ok(());
        }
        match (try_to_seal(session, &self.wish), self.backend()) {
            (Ok(flags), _) => self.seal_with(session, &flags),
            // The token has the key of the cache; the credentials are sealed as well as can be.
            (Err(failure), Some(Backend::Hsm)) if asked.is_none() => {
                let host = SealWish { with_key: Some(SealMode::Host), pcrs: None };
                self.seal_with(session, &try_to_seal(session, &host).map_err(|_| failure)?);
                self.wish = host;
            }
            (Err(failure), _) => self.without_tpm(session, failure)?,
        }
        Ok(())
    }

    /// A person chooses what to use in place of the TPM.
    fn without_tpm(&mut self, session: &Session<'_>, failure: CliError) -> Result<(), CliError> {
        let (Some(terminal), Some(choices)) = (&session.terminal, &mut self.choices) else {
            return Err(failure);
        };
        if self.wish.with_key.is_some() {
            return Err(failure);
        }
        terminal.show(&format!("\n  {failure}\n"));
        let choice = terminal.choose(
            "\nWithout the TPM, the key of the cache can be kept:",
            &[
                "in a PKCS#11 token, as a Nitrokey HSM: a stolen disk is worth nothing without the token",
                "sealed to this host's own key, on the same disk (--seal-with host): a copied file is worth nothing, \
                 a stolen disk is worth everything",
                "nowhere: stop here, and switch the TPM on",
            ],
        )?;
        if choice == 2 {
            return Err(failure);
        }
        let host = SealWish { with_key: Some(SealMode::Host), pcrs: None };
        choices.key = match choice {
            0 => KeyChoice::Token,
            _ => KeyChoice::Sealed(SealMode::Host),
        };
        if choices.key == KeyChoice::Token && choices.token.is_none() {
            choices.token = Some(session.gather(None).token()?);
        }
        let flags = try_to_seal(session, &host)?;
        let (text, choices, config) = (choices.to_toml(), self.choices.take(), self.config);
        let secrets = std::mem::take(&mut self.secrets);
        *self = Self { secrets, wish: host, ..Self::with(text, config, choices) };
        self.take_what_is_left(session)?;
        self.seal_with(session, &flags);
        Ok(())
    }

    /// The credentials of the config as it is now; the secrets that were given are kept.
    fn take_what_is_left(&mut self, session: &Session<'_>) -> Result<(), CliError> {
        let named: Vec<String> =
            self.settings.credentials().into_iter().map(str::to_owned).collect();
        for name in named {
            let known = KNOWN.iter().find(|known| known.name == name);
            if let (Some(known), None) = (known, self.secrets.get(&name)) {
                let file = known.file(session.options);
                let given = known.read(file, None, session.terminal.as_ref())?;
                self.secrets.set(known.name, given);
            }
            self.credentials.push(Credential { name, is_sealed: false });
        }
        Ok(())
    }

    fn seal_with(&mut self, session: &Session<'_>, flags: &SealFlags) {
        self.sealed_to = flags.to_string();
        if flags.needs_tpm() {
            let missing = session.host.creds.tpm_support().missing();
            self.tpm_note = missing.map(|missing| {
                format!("the TPM seals and opens, and systemd reports partial support: {missing}")
            });
        }
        // A user's key is sealed by `psid init`, to the host's own key.
        let with_key = match flags.with_key() {
            SealMode::Auto if session.scope != Scope::System => SealMode::Host,
            with_key => with_key,
        };
        let with_key = SealFlags::with(with_key);
        let key = &session.options.key;
        self.key_sealed_to = match (with_key.needs_tpm(), key.tpm2_pcrs.as_deref()) {
            (false, _) => with_key.to_string(),
            (true, Some(pcrs)) => with_key.and_pcrs(pcrs).to_string(),
            (true, None) => with_key.and_pcrs("7").to_string(),
        };
    }

    pub(super) fn backend(&self) -> Option<Backend> {
        match self.settings.text("cache.backend") {
            Some("tpm") => Some(Backend::Tpm),
            Some("hsm") => Some(Backend::Hsm),
            _ => None,
        }
    }

    /// The arguments of `psid init` besides the backend.
    pub(super) fn key_args(&self, session: &Session<'_>) -> Vec<String> {
        let key = &session.options.key;
        let mut args = Vec::new();
        if self.backend() == Some(Backend::Tpm) {
            let asked = key.seal_with.or(self.wish.with_key);
            args.extend(asked.map(|mode| format!("--seal-with={mode}")));
            args.extend(key.tpm2_pcrs.as_ref().map(|pcrs| format!("--tpm2-pcrs={pcrs}")));
        }
        args.extend(session.options.retry.then(|| "--retry".to_owned()));
        args
    }

    /// The goal beside what is there.
    pub(super) fn target<'a>(&'a self, session: &'a Session<'_>) -> Target<'a> {
        let flags = |args: &[String]| args.iter().map(|arg| format!(" {arg}")).collect::<String>();
        let seal_flags = self.wish.with_key.map(|mode| format!("--seal-with={mode}"));
        let program = session.options.program.as_ref();
        Target {
            paths: session.paths,
            found: &session.host.found,
            manager: session.host.manager,
            user: session.psid.service.as_ref().map(|user| user.name.as_str()),
            login: self.login(),
            credentials: self.credentials.clone(),
            config: self.config,
            backend: self.backend(),
            key_flags: flags(&self.key_args(session)),
            seal_flags: flags(&seal_flags.into_iter().collect::<Vec<_>>()),
            sealed_to: self.sealed_to.clone(),
            key_sealed_to: self.key_sealed_to.clone(),
            program_flags: program
                .map_or_else(String::new, |path| format!(" --program {}", path.display())),
            workloads: self.settings.below("workloads").into_iter().map(str::to_owned).collect(),
            units: session.units_to_start(&self.settings),
        }
    }

    /// The server and the identity, for people.
    fn login(&self) -> Option<String> {
        let table = "providers.infisical";
        let url =
            self.settings.text(&format!("{table}.api_url")).unwrap_or("https://app.infisical.com");
        if let Some(choices) = &self.choices {
            return Some(format!("{url} ({})", choices.login.describe()));
        }
        let method = self.settings.text(&format!("{table}.auth.method"))?;
        Some(format!("{url} ({method})"))
    }

    /// The secrets that the login is tried with.
    pub(super) fn login_secrets(&self) -> LoginSecrets<'_> {
        let identities =
            self.credentials.iter().filter(|credential| credential.name != PIN).count();
        let known = [CLIENT_SECRET, ACCESS_TOKEN, CLIENT_KEY];
        let secret = known.into_iter().find_map(|name| self.secrets.get(name));
        LoginSecrets { secret: secret.filter(|_| identities == 1), pin: self.secrets.get(PIN) }
    }
}

impl Session<'_> {
    /// Whether flags describe a config.
    fn names_a_config(&self) -> bool {
        let (provider, options) = (&self.options.provider, self.options);
        provider.api_url.is_some()
            || provider.method.is_some()
            || provider.client_id.is_some()
            || provider.identity_id.is_some()
            || provider.certificate_file.is_some()
            || options.project.is_some()
            || !options.workload.is_empty()
    }

    pub(super) fn gather(&self, previous: Option<Choices>) -> Gather<'_> {
        Gather {
            options: self.options,
            terminal: self.terminal.as_ref(),
            previous,
            is_user: !nix::unistd::geteuid().is_root() && self.scope != Scope::System,
            missing: Vec::new(),
        }
    }

    /// Flags that say something else than the config that is there change nothing.
    fn is_the_same(&self, text: &str, choices: &Choices) -> Result<(), CliError> {
        let wanted = Settings::of(&choices.to_toml());
        let Some(difference) = Settings::of(text).difference(&wanted) else { return Ok(()) };
        let path = self.paths.config.display();
        Err(CliError::new(
            Exit::BadInput,
            format!("{path} is there and differs from the flags, which say {difference}"),
            format!(
                "edit it and run `psictl init` without these flags, or `mv {path} {path}.old` and run it again"
            ),
        ))
    }
}

/// Seals something, to see with which flags that works.
fn try_to_seal(session: &Session<'_>, wish: &SealWish) -> Result<SealFlags, CliError> {
    let creds = &session.host.creds;
    // The first use of the host's key makes it.
    let first = seal::candidates(creds.version(), creds.scope(), wish).into_iter().next();
    if let Some(flags) = first.filter(|flags| session.options.dry_run && !flags.needs_tpm()) {
        return Ok(flags);
    }
    let trial = SecretBytes::new(b"trial".to_vec());
    let sealed = seal::seal(creds, "psi-init", &trial, wish);
    sealed.map(|(_, flags)| flags).map_err(|failure| failure.with_exit(Exit::BadInput))
}

/// Of another host, or after the TPM was cleared.
fn does_not_open(session: &Session<'_>, name: &str, flag: &str) -> CliError {
    let path = seal::path(session.paths, name);
    CliError::new(
        Exit::BadInput,
        format!(
            "{} was not sealed by this host, or its TPM was cleared: it does not open",
            path.display()
        ),
        format!("`psictl seal {name}`, or add {flag} FILE; then run `psictl init` again"),
    )
}

fn not_sealed(session: &Session<'_>, name: &str) -> CliError {
    let path = seal::path(session.paths, name);
    CliError::new(
        Exit::BadInput,
        format!("the config names the credential {name}, and {} does not open", path.display()),
        format!("`psictl seal {name}`, then run `psictl init` again"),
    )
}

#[cfg(test)]
mod tests {
    use super::super::choices::tests::choices;
    use super::super::login::Login;
    use super::*;

    #[test]
    fn goal_of_choices_names_server_login_and_backend() {
        let goal = Goal::with(choices().to_toml(), ConfigState::Missing, Some(choices()));
        assert_eq!(goal.backend(), Some(Backend::Tpm));
        let login = goal.login().unwrap();
        assert_eq!(login, "https://app.infisical.com (universal-auth, client id client)");
        assert_eq!(goal.settings.credentials(), [CLIENT_SECRET]);
        assert_eq!(goal.settings.below("workloads"), ["app.v1"]);
        let login = Login::Universal { client_id: "x".into() };
        assert_eq!(login.describe(), "universal-auth, client id x");
    }

    #[test]
    fn goal_of_a_config_without_provider_has_no_login() {
        let goal = Goal::with("[cache]\nbackend = \"hsm\"\n".into(), ConfigState::Kept, None);
        assert_eq!((goal.backend(), goal.login()), (Some(Backend::Hsm), None));
    }
}
