//! The thread that owns the module and its session.

use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, mpsc};
use std::thread;

use parking_lot::Mutex;
use psi_common::SecretBytes;

use super::TokenConfig;
use super::call_monitor::CallMonitor;
use super::error::TokenError;
use super::library::{Library, LoadedModule};
use super::pin::{PinGuard, PinSource};
use super::session::{JobError, Session};

/// A request to the thread.
pub(super) type Request = Box<dyn FnOnce(&mut TokenWorker) + Send>;

/// What a job requires.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionAccess {
    /// A session.
    Public,
    /// A login.
    User,
}

/// The reply to a request that did not fail.
pub(super) enum Reply<T> {
    Done(T),
    /// Nothing was done, because the job requires a login: read the PIN from this source and retry.
    NeedsPin(PinSource),
}

/// The config that the thread applies before its next request.
pub(super) struct PendingConfig {
    config: TokenConfig,
    revision: u64,
}

/// The state of the thread.
pub(super) struct TokenWorker {
    pending: Arc<Mutex<PendingConfig>>,
    monitor: Arc<CallMonitor>,
    config: TokenConfig,
    revision: u64,
    guard: PinGuard,
    loaded: Option<LoadedModule>,
    open_token: Option<OpenToken>,
}

/// A session and its module. The session is closed before the module is finalised.
struct OpenToken {
    session: Session,
    library: Library,
}

impl PendingConfig {
    pub(super) fn new(config: TokenConfig) -> Self {
        Self { config, revision: 0 }
    }

    pub(super) fn update(&mut self, config: TokenConfig) {
        self.config = config;
        self.revision += 1;
    }
}

/// Starts the thread, which runs as long as the process.
pub(super) fn start(
    pending: Arc<Mutex<PendingConfig>>,
    monitor: Arc<CallMonitor>,
) -> Result<mpsc::Sender<Request>, TokenError> {
    let (sender, requests) = mpsc::channel::<Request>();
    let serve = move || {
        let (config, revision) = {
            let pending = pending.lock();
            (pending.config.clone(), pending.revision)
        };
        let guard = PinGuard::new(config.failed_logins.clone(), config.retry);
        let mut worker = TokenWorker {
            pending,
            monitor,
            config,
            revision,
            guard,
            loaded: None,
            open_token: None,
        };
        for request in requests {
            let done = panic::catch_unwind(AssertUnwindSafe(|| request(&mut worker)));
            if done.is_err() {
                // The caller notices that the reply is missing. The session may be in a bad state.
                worker.close_session();
            }
        }
    };
    let started = thread::Builder::new().name("token".into()).spawn(serve);
    started.map(|_| sender).map_err(|error| {
        TokenError::broken(
            format!("the thread for the token cannot be started: {error}"),
            "raise TasksMax= of psid's unit",
        )
    })
}

impl TokenWorker {
    /// Runs `job` in a session, logged in if it requires that. Returns `None` if the caller has given up.
    pub(super) fn execute<T>(
        &mut self,
        access: SessionAccess,
        mut pin: Option<SecretBytes>,
        job: impl Fn(&mut Session) -> Result<T, JobError>,
        is_wanted: &dyn Fn() -> bool,
    ) -> Option<Result<Reply<T>, TokenError>> {
        if !is_wanted() {
            return None;
        }
        self.apply_config();
        loop {
            // The caller may have given up: opening a session can take half a minute.
            let result = match self.connect() {
                Ok(_) if !is_wanted() => return None,
                Ok(session) if access == SessionAccess::User && !session.is_logged_in() => {
                    let Some(pin) = pin.take() else {
                        return Some(Ok(Reply::NeedsPin(self.config.pin.clone())));
                    };
                    self.log_in(&pin)
                }
                Ok(session) => match job(session) {
                    Ok(done) => {
                        session.is_proven = true;
                        if access == SessionAccess::User {
                            self.monitor.record(Ok(()));
                        }
                        return Some(Ok(Reply::Done(done)));
                    }
                    Err(result) => Err(result),
                },
                Err(error) => Err(JobError::Retryable(error)),
            };
            let error = match result {
                Ok(()) => continue,
                Err(JobError::Permanent(error)) => error,
                Err(JobError::Retryable(error)) => {
                    if self.close_session() {
                        tracing::debug!(
                            "a new session with the token is opened: {}",
                            error.problem.what
                        );
                        continue;
                    }
                    error
                }
            };
            self.monitor.record(Err(&error));
            return Some(Err(error));
        }
    }

    /// Applies the pending config.
    fn apply_config(&mut self) {
        let config = {
            let pending = self.pending.lock();
            if pending.revision == self.revision {
                return;
            }
            self.revision = pending.revision;
            pending.config.clone()
        };
        let before = std::mem::replace(&mut self.config, config);
        let same = before.module == self.config.module
            && before.token == self.config.token
            && before.key == self.config.key;
        // After a failed login, some modules return the same error until they are finalised.
        let in_use = self.open_token.as_ref().is_some_and(|open| open.session.is_logged_in());
        if !(same && in_use) {
            self.close_session();
        }
    }

    fn connect(&mut self) -> Result<&mut Session, TokenError> {
        let open = match self.open_token.take() {
            Some(open) => open,
            None => self.open()?,
        };
        Ok(&mut self.open_token.insert(open).session)
    }

    fn open(&mut self) -> Result<OpenToken, TokenError> {
        let library = self.library()?;
        let session = Session::open(&library, &self.config, &self.monitor)?;
        Ok(OpenToken { session, library })
    }

    fn library(&mut self) -> Result<Library, TokenError> {
        let loaded = match self.loaded.take().filter(|loaded| loaded.is_of(&self.config.module)) {
            Some(loaded) => loaded,
            None => LoadedModule::load(&self.config.module, &self.monitor)?,
        };
        self.loaded.insert(loaded).initialize(&self.monitor)
    }

    /// Loads the module without looking for a token, and returns its description.
    pub(super) fn load(&mut self) -> Result<String, TokenError> {
        self.apply_config();
        match &self.open_token {
            Some(open) => open.library.describe(),
            None => self.library()?.describe(),
        }
    }

    fn log_in(&mut self, pin: &SecretBytes) -> Result<(), JobError> {
        match &mut self.open_token {
            Some(open) => open.session.log_in(pin, &self.config, &mut self.guard),
            None => Ok(()),
        }
    }

    /// Closes the session and finalises the module, which is necessary after a restart of pcscd. Returns whether
    /// a new session may succeed where this one failed.
    pub(super) fn close_session(&mut self) -> bool {
        let Some(OpenToken { session, library }) = self.open_token.take() else { return false };
        let may_recover = session.is_proven || session.is_login_claimed();
        self.monitor.watch("C_CloseSession", || drop(session));
        drop(library);
        may_recover
    }
}
