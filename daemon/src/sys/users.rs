//! The uids of users by name, as the system's name service has them. A query of a directory service may hang, so each
//! runs on a thread of its own, and the caller waits for a limited time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nix::unistd::User;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// How long one round of queries may take.
const LIMIT: Duration = Duration::from_secs(2);
/// Threads that wait for the name service; beyond them, it is not asked.
const MAX_THREADS: usize = 4;

static THREADS: AtomicUsize = AtomicUsize::new(0);

/// The answer of the name service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UserAnswer {
    /// The user's uid.
    Uid(u32),
    /// There is no such user.
    NoSuchUser,
    /// There was no answer: why.
    NoAnswer(String),
}

/// Asks for these users, in at most two seconds; a name without an answer is missing in the result.
pub(crate) async fn look_up(mut names: Vec<String>) -> Vec<(String, UserAnswer)> {
    // The name service answers these from a file, also while a directory service hangs over the others.
    let local = psi_common::passwd::users().unwrap_or_default();
    names.sort_by_key(|name| !local.iter().any(|user| user.name == *name));
    let (sender, answers) = mpsc::unbounded_channel();
    let thread = Thread::begin().map(|thread| {
        std::thread::Builder::new().name("users".into()).spawn(move || {
            let _thread = thread;
            for name in names {
                let answer = ask(&name);
                if sender.send((name, answer)).is_err() {
                    return;
                }
            }
        })
    });
    if !matches!(thread, Some(Ok(_))) {
        return Vec::new();
    }
    collect(answers, Instant::now() + LIMIT).await
}

async fn collect(
    mut answers: mpsc::UnboundedReceiver<(String, UserAnswer)>,
    until: Instant,
) -> Vec<(String, UserAnswer)> {
    let mut found = Vec::new();
    while let Ok(Some(answer)) = timeout_at(until, answers.recv()).await {
        found.push(answer);
    }
    found
}

fn ask(name: &str) -> UserAnswer {
    match User::from_name(name) {
        Ok(Some(user)) => UserAnswer::Uid(user.uid.as_raw()),
        Ok(None) => UserAnswer::NoSuchUser,
        Err(error) => UserAnswer::NoAnswer(error.desc().to_owned()),
    }
}

/// One of the threads, for as long as this lives.
struct Thread;

impl Thread {
    fn begin() -> Option<Arc<Self>> {
        let is_free = |count: usize| (count < MAX_THREADS).then_some(count + 1);
        let counted = THREADS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_free);
        counted.is_ok().then(|| Arc::new(Self))
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        THREADS.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_have_uids() {
        let found = look_up(vec!["nobody-of-this-name".into(), "root".into()]).await;
        let expected = [
            ("root".to_owned(), UserAnswer::Uid(0)),
            ("nobody-of-this-name".to_owned(), UserAnswer::NoSuchUser),
        ];
        assert_eq!(found, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn name_service_that_hangs_costs_two_seconds() {
        let (sender, answers) = mpsc::unbounded_channel();
        sender.send(("root".into(), UserAnswer::Uid(0))).unwrap();
        let start = Instant::now();
        let found = collect(answers, start + LIMIT).await;
        assert_eq!((found.len(), start.elapsed()), (1, LIMIT));
        drop(sender);
    }
}
