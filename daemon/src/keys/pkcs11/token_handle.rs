//! Between those who want something of the token and the thread that has it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use psi_common::SecretBytes;
use tokio::sync::oneshot;

use super::TokenConfig;
use super::call_monitor::CallMonitor;
use super::error::TokenError;
use super::session::{Connection, Trouble};
use super::token_worker::{self, Access, PendingConfig, Reply, Request, TokenWorker};

/// How often a call may find that it takes a login: once as a rule, and once more each time that the
/// token goes away in between.
const LOGINS: usize = 3;

/// What the handles share.
pub(super) struct TokenHandle {
    pub(super) board: Arc<CallMonitor>,
    orders: Arc<Mutex<PendingConfig>>,
    requests: Mutex<Option<mpsc::Sender<Request>>>,
}

impl TokenHandle {
    pub(super) fn new(config: TokenConfig) -> Self {
        Self {
            board: Arc::default(),
            orders: Arc::new(Mutex::new(PendingConfig::new(config))),
            requests: Mutex::default(),
        }
    }

    /// The thread follows before it does anything else.
    pub(super) fn renew(&self, config: TokenConfig) {
        lock(&self.orders).renew(config);
    }

    /// Has `job` done on the thread, and waits no longer than `patience`.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        patience: Duration,
        access: Access,
        job: impl Fn(&mut Connection) -> Result<T, Trouble> + Send + Sync + 'static,
    ) -> Result<T, TokenError> {
        let answer = tokio::time::timeout(patience, self.with_login(access, Arc::new(job)));
        answer.await.unwrap_or_else(|_| Err(self.board.overdue(patience)))
    }

    /// Has the module loaded, and waits no longer than `patience`.
    pub(super) async fn load(&self, patience: Duration) -> Result<String, TokenError> {
        let (answer, answered) = oneshot::channel();
        self.post(Box::new(move |owner| {
            let _ = answer.send(owner.load());
        }))?;
        match tokio::time::timeout(patience, answered).await {
            Ok(answer) => answer.unwrap_or_else(|_| Err(TokenError::died())),
            Err(_) => Err(self.board.overdue(patience)),
        }
    }

    /// Ends the session and the module's instance; whether that was done within `patience`.
    pub(super) async fn close(&self, patience: Duration) -> bool {
        if lock(&self.requests).is_none() {
            return true;
        }
        let (answer, answered) = oneshot::channel();
        let close = Box::new(move |owner: &mut TokenWorker| {
            owner.close_session();
            let _ = answer.send(());
        });
        self.post(close).is_ok() && tokio::time::timeout(patience, answered).await.is_ok()
    }

    /// The PIN is read only when the thread cannot do without, and it lives until the login.
    async fn with_login<T: Send + 'static>(
        &self,
        access: Access,
        job: Arc<impl Fn(&mut Connection) -> Result<T, Trouble> + Send + Sync + 'static>,
    ) -> Result<T, TokenError> {
        let mut pin = None;
        for _ in 0..=LOGINS {
            match self.ask(access, pin.take(), Arc::clone(&job)).await? {
                Reply::Done(done) => return Ok(done),
                Reply::NeedsPin(source) => {
                    let read = source.read().await;
                    pin = Some(read.inspect_err(|error| self.board.note(Err(error)))?);
                }
            }
        }
        Err(TokenError::absent(
            "the token goes away each time between login and use",
            "check the reader and the cable",
        ))
    }

    async fn ask<T: Send + 'static>(
        &self,
        access: Access,
        pin: Option<SecretBytes>,
        job: Arc<impl Fn(&mut Connection) -> Result<T, Trouble> + Send + Sync + 'static>,
    ) -> Result<Reply<T>, TokenError> {
        let (answer, answered) = oneshot::channel();
        self.post(Box::new(move |owner| {
            let is_wanted = || !answer.is_closed();
            if let Some(reply) = owner.perform(access, pin, &*job, &is_wanted) {
                // Whoever asked may be gone by now; a secret in the answer is wiped with it.
                let _ = answer.send(reply);
            }
        }))?;
        answered.await.unwrap_or_else(|_| {
            let error = TokenError::died();
            self.board.note(Err(&error));
            Err(error)
        })
    }

    /// Puts a request before the thread: a new one, when there is none yet or the last one has died.
    fn post(&self, request: Request) -> Result<(), TokenError> {
        let mut requests = lock(&self.requests);
        let request = match &*requests {
            None => request,
            Some(present) => match present.send(request) {
                Ok(()) => return Ok(()),
                Err(mpsc::SendError(request)) => request,
            },
        };
        let new = token_worker::start(Arc::clone(&self.orders), Arc::clone(&self.board))?;
        // It has just been made: if it is gone again, that is told as its death.
        let _ = new.send(request);
        *requests = Some(new);
        Ok(())
    }
}

impl Drop for TokenHandle {
    /// The thread goes on waiting: it must not end, with what modules do then, while the process does.
    fn drop(&mut self) {
        std::mem::forget(lock(&self.requests).take());
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
