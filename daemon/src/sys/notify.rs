//! What psid tells systemd (sd_notify(3)). Outside of systemd every call is nothing.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

/// How often systemd is asked for more time.
const ASK_EVERY: Duration = Duration::from_secs(10);

/// Key and socket are ready.
pub(crate) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The config is being read again; `ready` ends that.
pub(crate) fn reloading() {
    if let Ok(since) = NotifyState::monotonic_usec_now() {
        tell(&[NotifyState::Reloading, since]);
    }
}

/// Asks for more time to start, again and again; ends when it is dropped.
pub(crate) async fn ask_for_time(status: &str) {
    loop {
        let time = u32::try_from(2 * ASK_EVERY.as_micros()).unwrap_or(u32::MAX);
        tell(&[NotifyState::ExtendTimeoutUsec(time), NotifyState::Status(status)]);
        let _ = tokio::time::timeout(ASK_EVERY, std::future::pending::<()>()).await;
    }
}

/// The daemon ends.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("writing the cache and stopping")]);
}

/// Feeds systemd's watchdog at half of its interval until `stop`, while psid `answers`. An answer that does not
/// come is waited for, and systemd ends what cannot give it.
pub(crate) async fn keep_alive<F: Future<Output = bool>>(
    stop: CancellationToken,
    answers: impl Fn() -> F,
) {
    let Some(interval) =
        sd_notify::watchdog_enabled().filter(|interval| *interval > Duration::ZERO)
    else {
        return;
    };
    while tokio::time::timeout(interval / 2, stop.cancelled()).await.is_err() {
        if answers().await {
            tell(&[NotifyState::Watchdog]);
        }
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!("systemd was not told: {error}");
    }
}
