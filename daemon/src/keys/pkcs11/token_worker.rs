//! The thread that owns the module and the session.

use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use psi_common::SecretBytes;

use super::TokenConfig;
use super::call_monitor::CallMonitor;
use super::error::TokenError;
use super::library::{Library, Loaded};
use super::pin::{PinGuard, PinSource};
use super::session::{Connection, Trouble};
use super::token_handle::lock;

/// What is put before the thread.
pub(super) type Request = Box<dyn FnOnce(&mut TokenWorker) + Send>;

/// What a job takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// A session.
    Public,
    /// A login.
    User,
}

/// How a request ended, if it did not fail.
pub(super) enum Reply<T> {
    Done(T),
    /// Nothing was done: it takes the PIN, which is there.
    NeedsPin(PinSource),
}

/// What the thread is to follow.
pub(super) struct PendingConfig {
    config: TokenConfig,
    renewals: u64,
}

/// The thread's own.
pub(super) struct TokenWorker {
    orders: Arc<Mutex<PendingConfig>>,
    board: Arc<CallMonitor>,
    config: TokenConfig,
    renewals: u64,
    guard: PinGuard,
    loaded: Option<Loaded>,
    line: Option<Session>,
}

/// What is open; the session is closed before the module is finalised.
struct Session {
    connection: Connection,
    library: Library,
}

impl PendingConfig {
    pub(super) fn new(config: TokenConfig) -> Self {
        Self { config, renewals: 0 }
    }

    pub(super) fn renew(&mut self, config: TokenConfig) {
        self.config = config;
        self.renewals += 1;
    }
}

/// Starts a thread; it lasts as long as the process.
pub(super) fn start(
    orders: Arc<Mutex<PendingConfig>>,
    board: Arc<CallMonitor>,
) -> Result<mpsc::Sender<Request>, TokenError> {
    let (sender, requests) = mpsc::channel::<Request>();
    let serve = move || {
        let (config, renewals) = {
            let orders = lock(&orders);
            (orders.config.clone(), orders.renewals)
        };
        let guard = PinGuard::new(config.failed_logins.clone(), config.retry);
        let mut owner =
            TokenWorker { orders, board, config, renewals, guard, loaded: None, line: None };
        for request in requests {
            let done = panic::catch_unwind(AssertUnwindSafe(|| request(&mut owner)));
            if done.is_err() {
                // Whoever asked is told by the answer that never comes. What was open is not trusted any
                // more.
                owner.close_session();
            }
        }
    };
    let started = thread::Builder::new().name("token".into()).spawn(serve);
    started.map(|_| sender).map_err(|error| {
        TokenError::broken(
            format!("no thread for the token: {error}"),
            "check the limits on threads",
        )
    })
}

impl TokenWorker {
    /// Does `job`, connected and, where that is needed, logged in; nothing for somebody who has gone.
    pub(super) fn perform<T>(
        &mut self,
        access: Access,
        mut pin: Option<SecretBytes>,
        job: impl Fn(&mut Connection) -> Result<T, Trouble>,
        is_wanted: &dyn Fn() -> bool,
    ) -> Option<Result<Reply<T>, TokenError>> {
        if !is_wanted() {
            return None;
        }
        self.follow_orders();
        loop {
            // Opening may have taken half a minute.
            let trouble = match self.connect() {
                Ok(_) if !is_wanted() => return None,
                Ok(connection) if access == Access::User && !connection.is_logged_in() => {
                    let Some(pin) = pin.take() else {
                        return Some(Ok(Reply::NeedsPin(self.config.pin.clone())));
                    };
                    self.log_in(&pin)
                }
                Ok(connection) => match job(connection) {
                    Ok(done) => {
                        connection.is_proven = true;
                        if access == Access::User {
                            self.board.note(Ok(()));
                        }
                        return Some(Ok(Reply::Done(done)));
                    }
                    Err(trouble) => Err(trouble),
                },
                Err(error) => Err(Trouble::Lost(error)),
            };
            let error = match trouble {
                Ok(()) => continue,
                Err(Trouble::Final(error)) => error,
                Err(Trouble::Lost(error)) => {
                    if self.close_session() {
                        tracing::debug!("a new session with the token is opened: {}", error.what);
                        continue;
                    }
                    error
                }
            };
            self.board.note(Err(&error));
            return Some(Err(error));
        }
    }

    /// A config that was read again holds from here on.
    fn follow_orders(&mut self) {
        let config = {
            let orders = lock(&self.orders);
            if orders.renewals == self.renewals {
                return;
            }
            self.renewals = orders.renewals;
            orders.config.clone()
        };
        let before = std::mem::replace(&mut self.config, config);
        let same = before.module == self.config.module
            && before.token == self.config.token
            && before.key == self.config.key;
        // Where nobody could log in, some modules remember why for as long as they are initialised.
        let in_use = self.line.as_ref().is_some_and(|line| line.connection.is_logged_in());
        if !(same && in_use) {
            self.close_session();
        }
    }

    fn connect(&mut self) -> Result<&mut Connection, TokenError> {
        let line = match self.line.take() {
            Some(line) => line,
            None => self.open()?,
        };
        Ok(&mut self.line.insert(line).connection)
    }

    fn open(&mut self) -> Result<Session, TokenError> {
        let library = self.library()?;
        let connection = Connection::open(&library, &self.config, &self.board)?;
        Ok(Session { connection, library })
    }

    fn library(&mut self) -> Result<Library, TokenError> {
        let loaded = match self.loaded.take().filter(|loaded| loaded.is_of(&self.config.module)) {
            Some(loaded) => loaded,
            None => Loaded::load(&self.config.module, &self.board)?,
        };
        self.loaded.insert(loaded).initialize(&self.board)
    }

    /// Loads the module, and looks for no token; what it says that it is.
    pub(super) fn load(&mut self) -> Result<String, TokenError> {
        self.follow_orders();
        match &self.line {
            Some(line) => line.library.describe(),
            None => self.library()?.describe(),
        }
    }

    fn log_in(&mut self, pin: &SecretBytes) -> Result<(), Trouble> {
        match &mut self.line {
            Some(line) => line.connection.log_in(pin, &self.config, &mut self.guard),
            None => Ok(()),
        }
    }

    /// Ends the session and the module's instance, for the next one to find all as it is then: only that
    /// helps after pcscd was restarted. Whether what failed on this session may do better on the next.
    pub(super) fn close_session(&mut self) -> bool {
        let Some(Session { connection, library }) = self.line.take() else { return false };
        let is_doubtful = connection.is_proven || connection.is_login_claimed();
        self.board.during("C_CloseSession", || drop(connection));
        drop(library);
        is_doubtful
    }
}
