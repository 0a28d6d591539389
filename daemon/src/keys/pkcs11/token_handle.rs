//! The callers' side of the worker thread: requests with a deadline.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use parking_lot::Mutex;
use psi_common::SecretBytes;
use tokio::sync::oneshot;

use super::TokenConfig;
use super::call_monitor::CallMonitor;
use super::error::TokenError;
use super::session::{JobError, Session};
use super::token_worker::{self, PendingConfig, Reply, Request, SessionAccess, TokenWorker};

/// How many logins one request may need: usually one, and one more each time the token disappears meanwhile.
const MAX_LOGINS: usize = 3;

/// The handle of the worker thread, which all clones of a [`super::Token`] share.
pub(super) struct TokenHandle {
    pub(super) monitor: Arc<CallMonitor>,
    pending: Arc<Mutex<PendingConfig>>,
    requests: Mutex<Option<mpsc::Sender<Request>>>,
}

impl TokenHandle {
    pub(super) fn new(config: TokenConfig) -> Self {
        Self {
            monitor: Arc::default(),
            pending: Arc::new(Mutex::new(PendingConfig::new(config))),
            requests: Mutex::default(),
        }
    }

    /// Sets the config that the worker applies before its next request.
    pub(super) fn update(&self, config: TokenConfig) {
        self.pending.lock().update(config);
    }

    /// Runs `job` on the worker thread, and waits at most `timeout` for its result.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        timeout: Duration,
        access: SessionAccess,
        job: impl Fn(&mut Session) -> Result<T, JobError> + Send + Sync + 'static,
    ) -> Result<T, TokenError> {
        let answer = tokio::time::timeout(timeout, self.with_login(access, Arc::new(job)));
        answer.await.unwrap_or_else(|_| Err(self.monitor.timeout_error(timeout)))
    }

    /// Loads the module on the worker thread, and waits at most `timeout`.
    pub(super) async fn load(&self, timeout: Duration) -> Result<String, TokenError> {
        let (answer, answered) = oneshot::channel();
        self.post(Box::new(move |worker| {
            let _ = answer.send(worker.load());
        }))?;
        match tokio::time::timeout(timeout, answered).await {
            Ok(answer) => answer.unwrap_or_else(|_| Err(TokenError::crashed())),
            Err(_) => Err(self.monitor.timeout_error(timeout)),
        }
    }

    /// Closes the session and finalises the module; false if that takes longer than `timeout`.
    pub(super) async fn close(&self, timeout: Duration) -> bool {
        if self.requests.lock().is_none() {
            return true;
        }
        let (answer, answered) = oneshot::channel();
        let close = Box::new(move |worker: &mut TokenWorker| {
            worker.close_session();
            let _ = answer.send(());
        });
        self.post(close).is_ok() && tokio::time::timeout(timeout, answered).await.is_ok()
    }

    /// Reads the PIN only if the worker needs it. It is dropped at the login.
    async fn with_login<T: Send + 'static>(
        &self,
        access: SessionAccess,
        job: Arc<impl Fn(&mut Session) -> Result<T, JobError> + Send + Sync + 'static>,
    ) -> Result<T, TokenError> {
        let mut pin = None;
        for _ in 0..=MAX_LOGINS {
            match self.request(access, pin.take(), Arc::clone(&job)).await? {
                Reply::Done(done) => return Ok(done),
                Reply::NeedsPin(source) => {
                    let read = source.read().await;
                    pin = Some(read.inspect_err(|error| self.monitor.record(Err(error)))?);
                }
            }
        }
        Err(TokenError::absent(
            "the token disappears each time between login and use",
            "check the reader and the cable",
        ))
    }

    async fn request<T: Send + 'static>(
        &self,
        access: SessionAccess,
        pin: Option<SecretBytes>,
        job: Arc<impl Fn(&mut Session) -> Result<T, JobError> + Send + Sync + 'static>,
    ) -> Result<Reply<T>, TokenError> {
        let (answer, answered) = oneshot::channel();
        self.post(Box::new(move |worker| {
            let is_wanted = || !answer.is_closed();
            if let Some(reply) = worker.execute(access, pin, &*job, &is_wanted) {
                // The caller may have timed out; a secret in the reply is wiped when dropped.
                let _ = answer.send(reply);
            }
        }))?;
        answered.await.unwrap_or_else(|_| {
            let error = TokenError::crashed();
            self.monitor.record(Err(&error));
            Err(error)
        })
    }

    /// Sends a request to the worker thread, and starts the thread if there is none or the last one has ended.
    fn post(&self, request: Request) -> Result<(), TokenError> {
        let mut requests = self.requests.lock();
        let request = match &*requests {
            None => request,
            Some(present) => match present.send(request) {
                Ok(()) => return Ok(()),
                Err(mpsc::SendError(request)) => request,
            },
        };
        let new = token_worker::start(Arc::clone(&self.pending), Arc::clone(&self.monitor))?;
        // If the new thread has ended already, the missing reply reports it.
        let _ = new.send(request);
        *requests = Some(new);
        Ok(())
    }
}

impl Drop for TokenHandle {
    /// Keeps the thread waiting: modules crash if their thread ends while the process exits.
    fn drop(&mut self) {
        std::mem::forget(self.requests.lock().take());
    }
}
